# `make` alone lists the targets.

LOCKING = env -u PIP_FIND_LINKS -u UV_FIND_LINKS .venv/bin/uv pip compile
PINNING = --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock"
LOCK = $(LOCKING) pyproject.toml $(PINNING) --extra all --group build
PACKAGES = demo flows k2 operators
# Packages that have compiled rules, or what those are made of.
RULES = dedup iceberg kafka model sequencing venues

PYTEST = .venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

ifeq ($(wildcard pyproject.toml),)
$(error no checkout in this folder; run make in the folder of its Makefile (make -C FOLDER))
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Two targets side by side would install into .venv at one time.
.NOTPARALLEL:
.PHONY: help demo test test-all torture torture-mutants torture-processes numberings mutants check lint bench instructions bench-peers upkeep outage idle hosts whole-day spark picture lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: .venv/rules ## start a broker, publish a market with known faults, run the job, compare (ARGS="--messages 10000")
	@.venv/bin/python -m k2.cli demo $(ARGS)

test: .venv/dev .venv/rules ## run the quick tests, a few minutes (ARGS="tests/sequencing -x")
	@$(PYTEST) -m "not slow" $(ARGS)

# One process more than there are cores: these tests wait for brokers, epochs and browsers much of their time.
test-all: test ## run the slow tests too: real processes, servers, a browser, the torture
	@$(PYTEST) --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) -m slow $(ARGS)

torture: .venv/dev .venv/rules ## crash and rescale the job, seed by seed, and check every row (SEEDS=1000, ARGS=--verbose)
	@.venv/bin/python -m tests.simulation --seeds $(or $(SEEDS),100) $(ARGS)

torture-mutants: .venv/dev .venv/rules ## plant bugs in the job, and print the seed at which the torture finds each
	@.venv/bin/python -m tests.simulation.proof $(ARGS)

torture-processes: .venv/dev .venv/rules ## kill and rescale real processes on a real broker, round by round (ROUNDS=20)
	@.venv/bin/python -m tests.flows.torture --rounds $(or $(ROUNDS),10) $(ARGS)

numberings: .venv/dev .venv/rules ## check the rules on feeds with known gaps and restarts, seed by seed (SEEDS=1000)
	@.venv/bin/python -m tests.sequencing.numberings_of_many_seeds --seeds $(or $(SEEDS),1000) $(ARGS)

mutants: .venv/dev ## change the rules in five thousand small ways, and list each change that no test detects
	@.venv/bin/python -m tests.mutation $(ARGS)

check: lint test-all ## run ruff, mypy, the import rules and all tests

lint: .venv/dev ## run ruff, mypy and the import rules
	.venv/bin/ruff check --quiet
	.venv/bin/ruff format --quiet --check
	.venv/bin/mypy --strict --no-error-summary
	.venv/bin/lint-imports --no-logo

bench: .venv/dev .venv/rules ## measure CPU per message of the whole job against a bare consume() loop
	@.venv/bin/python -m benchmarks.job $(ARGS)

instructions: .venv/dev .venv/rules ## count the instructions per message of each stage, and compare (ARGS=--update; needs Valgrind)
	@.venv/bin/python -m benchmarks.instructions $(ARGS)

bench-peers: .venv/dev .venv/rules ## land the same trades by the job and by other engines, and compare (ARGS="--contenders bare,job")
	@.venv/bin/python -m benchmarks.peers $(ARGS)

upkeep: .venv/dev .venv/rules ## run job, upkeep and queries side by side with kills at random (ARGS="--minutes 10 --catalog rest-s3")
	@.venv/bin/python -m tests.flows.upkeep $(ARGS)

outage: .venv/dev .venv/rules ## take the broker away from a supervised job, twice (ARGS="--minutes 5")
	@.venv/bin/python -m tests.flows.outage $(ARGS)

idle: .venv/dev .venv/rules ## run a job without messages for as many epochs as an hour has, and watch its health (ARGS="--minutes 6")
	@.venv/bin/python -m tests.flows.idle $(ARGS)

hosts: .venv/dev .venv/rules ## run a cluster on three hosts, and cut one off (needs root; ARGS="--cuts 2:60")
	@unshare --net --mount .venv/bin/python -m tests.flows.hosts $(ARGS)

whole-day: .venv/dev .venv/rules ## mend a simulated day with losses to a whole one, with every step killed (ARGS="--seeds 5")
	@.venv/bin/python -m tests.flows.whole_day --kills $(ARGS)

spark: .venv/dev ## let Spark read the tables and clean them up, and start the job after it (needs Java and Maven)
	@.venv/bin/python -m tests.engines.clean_up $(ARGS)

picture: .venv/dev ## take the docs' screenshots of k2 serve (needs Chromium)
	@K2_TEST_PICTURE=docs/page.png .venv/bin/python -m pytest -q tests/http/test_page.py -k screenshot
	@K2_TEST_STATUS_PICTURE=docs/status.png .venv/bin/python -m pytest -q tests/http/test_page_status.py -k partition

lock: .venv/dev ## resolve the pinned versions again (ARGS=--upgrade for newer ones)
	$(LOCK) $(ARGS) --output-file requirements/runtime.txt
	$(LOCK) $(ARGS) --extra postgresql --extra schema-registry --constraint requirements/runtime.txt --output-file requirements/image.txt
	$(LOCK) $(ARGS) --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt
	$(LOCKING) requirements/s3-server.in $(PINNING) $(ARGS) --output-file requirements/s3-server.txt
	$(LOCKING) requirements/manifest-checks.in $(PINNING) $(ARGS) --output-file requirements/manifest-checks.txt
	$(LOCKING) requirements/peers-quix.in $(PINNING) $(ARGS) --output-file requirements/peers-quix.txt
	$(LOCKING) requirements/peers-spark.in $(PINNING) $(ARGS) --output-file requirements/peers-spark.txt

clean: ## remove .venv, caches, compiled rules, and the data of demo and tests
	rm -rf data/demo-* .venv .cache .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis build dist mutants
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# The first of these that runs, is of a version with Bytewax wheels, and can make an environment; else uv.
.venv/bin/python:
	@rm -rf .venv; lacking=; \
	for python in python3.12 python3.11 python3; do \
		"$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null && exec "$$python" -m venv .venv; \
		lacking=$$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'); \
	done; \
	if command -v uv >/dev/null 2>&1; then exec uv venv --quiet --seed --python ">=3.11,<3.13" .venv; fi; \
	if [ -n "$$lacking" ]; then echo "this Python cannot create virtual environments; install $$lacking (on Debian and Ubuntu: apt install $$lacking), or uv" >&2; \
	else echo "no Python 3.11 or 3.12 found; install one of them, or uv (which downloads its own)" >&2; fi; \
	exit 1

# Stamps: what is installed is newer than what asks for it. dev holds all of runtime.
.venv/runtime: .venv/bin/python requirements/runtime.txt pyproject.toml
	@$(call install,runtime)
	@touch $@

.venv/dev: .venv/bin/python requirements/dev.txt pyproject.toml
	@$(call install,dev)
	@touch .venv/runtime $@

# All rules of the job, once for all processes of tests and of the demo.
.venv/rules: .venv/runtime $(wildcard $(RULES:%=k2/%/*.py))
	@.venv/bin/python -m k2.cli compile
	@touch $@

define install
echo "Installing requirements/$(1).txt into .venv (once, about a minute) ..." >&2 && \
export PIP_USER=0 && .venv/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/$(1).txt && \
.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
endef

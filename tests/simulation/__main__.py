"""The torture: `python -m tests.simulation --seeds 1000`."""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from k2.ops.failpoints import NAMES
from tests.simulation.run import MULTI_PARTITION_EVERY, Outcome, is_multi_partition, simulate
from tests.simulation.warm import warm


def main() -> int:
    """Run the requested seeds; print each failing seed with the command that replays it, and the totals."""
    arguments = _arguments()
    warm()
    begun = time.monotonic()
    outcomes = []
    for outcome in _outcomes(arguments):
        outcomes.append(outcome)
        if outcome.violations or arguments.verbose:
            _say(outcome, _flags(arguments))
    _sum_up(outcomes, time.monotonic() - begun, is_object_store=arguments.object_store)
    return 1 if any(outcome.violations for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many seeds (default 100)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="first seed (default 0)")
    parser.add_argument(
        "--multi-partition-every",
        type=int,
        default=MULTI_PARTITION_EVERY,
        metavar="N",
        help="let the trades of a symbol lie in several partitions at one seed in N (0: never; default %(default)s)",
    )
    parser.add_argument(
        "--times",
        type=int,
        default=1,
        metavar="N",
        help="repeat each seed N times, since the timing of threads varies (default 1)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many seeds at a time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy the files of failing seeds here")
    parser.add_argument("--object-store", action="store_true", help="put the dead letters into an object store")
    parser.add_argument("--verbose", action="store_true", help="print every seed")
    return parser.parse_args()


def _outcomes(arguments: argparse.Namespace) -> Iterator[Outcome]:
    # Forked, so that nothing is imported or compiled again; these processes have no threads, and fork themselves.
    seeds = [seed for seed in range(arguments.first, arguments.first + arguments.seeds) for _ in range(arguments.times)]
    run = partial(
        _outcome,
        multi_partition_every=arguments.multi_partition_every,
        keep=arguments.keep,
        is_object_store=arguments.object_store,
    )
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(run, seeds)


def _outcome(seed: int, multi_partition_every: int, keep: Path | None, *, is_object_store: bool) -> Outcome:
    multi_partition = is_multi_partition(seed, multi_partition_every)
    return simulate(seed, multi_partition=multi_partition, keep=keep, is_object_store=is_object_store)


def _flags(arguments: argparse.Namespace) -> str:
    """Return the arguments that a replay needs as well."""
    every = arguments.multi_partition_every
    flags = "" if every == MULTI_PARTITION_EVERY else f" --multi-partition-every {every}"
    return flags + " --object-store" * arguments.object_store


def _say(outcome: Outcome, flags: str) -> None:
    _write(f"seed {outcome.seed}: {'FAILED' if outcome.violations else 'ok'}")
    for number, life in enumerate(outcome.lives, 1):
        _write(f"  life {number}: {life}")
    for violation in outcome.violations[:10]:
        _write(f"  {violation.kind}: {violation.message}")
    if outcome.violations:
        _write(f"  replay: make torture SEEDS=1 ARGS='--first {outcome.seed}{flags} --verbose --times 5'")


def _sum_up(outcomes: list[Outcome], seconds: float, *, is_object_store: bool) -> None:
    kinds = Counter(violation.kind for outcome in outcomes for violation in outcome.violations)
    hits = sum((outcome.hits for outcome in outcomes), Counter())
    unused = ("letters." if is_object_store else "objects.", "maintenance.", "replay.", "fill.")
    never = [name for name in NAMES if not name.startswith(unused) and not hits[name]]
    rows = {
        "seconds a seed": f"{seconds / max(len(outcomes), 1):.2f}",
        "failpoints never reached": ", ".join(never) or "none",
        "dead letters without a commit between lives": sum(outcome.pending_dead_letters for outcome in outcomes),
        "second instances": sum(outcome.frozen for outcome in outcomes),
        "fenced": sum(outcome.fenced for outcome in outcomes),
        "starts refused": sum(outcome.refused for outcome in outcomes),
        "failed": sum(bool(outcome.violations) for outcome in outcomes),
        "seeds": len(outcomes),
        "crashes": sum(outcome.crashes for outcome in outcomes),
        "rescales": sum(outcome.rescales for outcome in outcomes),
        "rows checked": sum(outcome.rows for outcome in outcomes),
        "lost": kinds["lost"],
        "doubled": kinds["doubled"],
        "wrong": kinds["wrong"],
    }
    for name, value in rows.items():
        _write(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

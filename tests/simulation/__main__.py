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
from tests.simulation.run import ACROSS_EVERY, Outcome, is_across, simulate
from tests.simulation.warm import warm


def main() -> int:
    """Run the requested seeds; print each failing seed with the command that replays it, and the totals."""
    arguments = _arguments()
    warm()
    begun = time.monotonic()
    outcomes = []
    for outcome in _outcomes(arguments):
        outcomes.append(outcome)
        if outcome.faults or arguments.verbose:
            _say(outcome, arguments.across_every)
    _sum_up(outcomes, time.monotonic() - begun)
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="how many (default 100)")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="the first of them (default 0)")
    parser.add_argument(
        "--across-every",
        type=int,
        default=ACROSS_EVERY,
        metavar="N",
        help="let the trades of a symbol lie in several partitions at one seed in N (0: never; default %(default)s)",
    )
    parser.add_argument(
        "--times", type=int, default=1, metavar="N", help="how often each, since threads differ (default 1)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at a time")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the files of failing seeds here")
    parser.add_argument("--verbose", action="store_true", help="tell of each seed")
    return parser.parse_args()


def _outcomes(arguments: argparse.Namespace) -> Iterator[Outcome]:
    # Forked, so that nothing is imported or compiled again; these processes have no threads, and fork themselves.
    seeds = [seed for seed in range(arguments.first, arguments.first + arguments.seeds) for _ in range(arguments.times)]
    run = partial(_outcome, across_every=arguments.across_every, keep=arguments.keep)
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        yield from pool.map(run, seeds)


def _outcome(seed: int, across_every: int, keep: Path | None) -> Outcome:
    return simulate(seed, across=is_across(seed, across_every), keep=keep)


def _say(outcome: Outcome, across_every: int) -> None:
    _write(f"seed {outcome.seed}: {'FAILED' if outcome.faults else 'ok'}")
    for number, life in enumerate(outcome.lives, 1):
        _write(f"  life {number}: {life}")
    for kind, sentence in outcome.faults[:10]:
        _write(f"  {kind}: {sentence}")
    if outcome.faults:
        flag = "" if across_every == ACROSS_EVERY else f" --across-every {across_every}"
        _write(f"  replay: make torture SEEDS=1 ARGS='--first {outcome.seed}{flag} --verbose --times 5'")


def _sum_up(outcomes: list[Outcome], seconds: float) -> None:
    kinds = Counter(kind for outcome in outcomes for kind, _ in outcome.faults)
    passed = sum((outcome.passings for outcome in outcomes), Counter())
    never = [name for name in NAMES if not passed[name]]
    rows = {
        "seconds a seed": f"{seconds / max(len(outcomes), 1):.2f}",
        "failpoints never reached": ", ".join(never) or "none",
        "letters that no commit counted between lives": sum(outcome.pending_letters for outcome in outcomes),
        "second instances": sum(outcome.frozen for outcome in outcomes),
        "fenced": sum(outcome.fenced for outcome in outcomes),
        "starts refused": sum(outcome.refused for outcome in outcomes),
        "failed": sum(bool(outcome.faults) for outcome in outcomes),
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

"""The proof of the simulator: `python -m tests.simulation.proof` finds each deliberate bug, seed by seed."""

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from tests.simulation.mutants import MUTANTS
from tests.simulation.mutate import Mutant, mutated
from tests.simulation.run import MULTI_PARTITION_EVERY, is_multi_partition, simulate
from tests.simulation.warm import warm

__all__ = ["main"]

SEEDS: Final = 50


class MutantResult(NamedTuple):
    """The result for one mutant."""

    mutant: Mutant
    seed: int | None
    """The first seed at which it is found; None if it survives."""
    how: str
    """The first violation that the checkers report."""
    is_fair: bool
    """Whether that seed passes without the mutant."""


def main() -> int:
    """Print the table; return 1 if a mutant survives, or is found at a seed that fails without it."""
    arguments = _arguments()
    mutants = [mutant for mutant in MUTANTS if not arguments.only or mutant.name in arguments.only]
    for mutant in mutants:
        mutated(mutant)
    warm()
    # Forked, as in `tests.simulation`.
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
        results = []
        for result in pool.map(partial(_find, seeds=arguments.seeds), mutants):
            results.append(result)
            _write(_line(result))
    found = sum(result.seed is not None and result.is_fair for result in results)
    for name, count in (("mutants", len(results)), ("found", found), ("survived", len(results) - found)):
        _write(f"{name}: {count}")
    return 0 if found == len(results) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.proof", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"how many seeds (default {SEEDS})")
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="this mutant (may be repeated)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many mutants at a time")
    return parser.parse_args()


def _find(mutant: Mutant, seeds: int) -> MutantResult:
    for seed in range(seeds):
        multi_partition = is_multi_partition(seed, MULTI_PARTITION_EVERY)
        violations = simulate(seed, multi_partition=multi_partition, mutant=mutant).violations
        if violations:
            kind, message = violations[0]
            is_fair = not simulate(seed, multi_partition=multi_partition).violations
            return MutantResult(mutant, seed, f"{kind}: {message}", is_fair)
    return MutantResult(mutant, None, "", is_fair=True)


def _line(result: MutantResult) -> str:
    mutant, seed = result.mutant, result.seed
    verdict = "SURVIVED" if seed is None else f"seed {seed}" if result.is_fair else f"SEED {seed} FAILS ANYHOW"
    how = " ".join(result.how.split())
    return f"law {mutant.law}  {mutant.name:<36} {verdict:<9} {mutant.what}  [{how[:90]}]"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

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
from tests.simulation.run import ACROSS_EVERY, is_across, simulate
from tests.simulation.warm import warm

__all__ = ["main"]

SEEDS: Final = 50


class Finding(NamedTuple):
    """The result for one mutant."""

    mutant: Mutant
    seed: int | None
    """The first seed at which it is found; None if it survives."""
    how: str
    """The first fault that the checkers name."""
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
        findings = []
        for finding in pool.map(partial(_find, seeds=arguments.seeds), mutants):
            findings.append(finding)
            _write(_line(finding))
    found = sum(finding.seed is not None and finding.is_fair for finding in findings)
    for name, count in (("mutants", len(findings)), ("found", found), ("survived", len(findings) - found)):
        _write(f"{name}: {count}")
    return 0 if found == len(findings) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.proof", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"how many to try (default {SEEDS})")
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help="this one (may be repeated)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="how many at a time")
    return parser.parse_args()


def _find(mutant: Mutant, seeds: int) -> Finding:
    for seed in range(seeds):
        across = is_across(seed, ACROSS_EVERY)
        faults = simulate(seed, across=across, mutant=mutant).faults
        if faults:
            kind, sentence = faults[0]
            return Finding(mutant, seed, f"{kind}: {sentence}", not simulate(seed, across=across).faults)
    return Finding(mutant, None, "", is_fair=True)


def _line(finding: Finding) -> str:
    mutant, seed = finding.mutant, finding.seed
    result = "SURVIVED" if seed is None else f"seed {seed}" if finding.is_fair else f"SEED {seed} FAILS ANYHOW"
    how = " ".join(finding.how.split())
    return f"law {mutant.law}  {mutant.name:<36} {result:<9} {mutant.what}  [{how[:90]}]"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

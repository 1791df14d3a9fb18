"""Judge many seeds of numberings by the specification: `make numberings SEEDS=1000`."""

import argparse
import sys
from collections import Counter

from tests.sequencing.forms import Plain
from tests.sequencing.numberings import script
from tests.sequencing.test_numberings import assessed, rows_of


def main() -> int:
    """Print what was wrong, by kind and seed; return 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    totals, aside, wrong = Counter[str](), Counter[str](), 0
    for seed in range(options.first, options.first + options.seeds):
        made, plain = script(seed), Plain()
        found = assessed(made, plain.track(rows_of(made)), plain.ranges())
        totals.update(vars(found))
        aside[made.kind] = max(aside[made.kind], found.set_aside)
        if not found.is_right or found.set_aside > 2 * made.restarts:
            wrong += 1
            sys.stdout.write(f"seed {seed}, {made.kind}: {found}\n")
    sys.stdout.write(f"seeds {options.seeds}, wrong {wrong}: {dict(totals)}\nmost set aside by kind: {dict(aside)}\n")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main())

"""Fixed scenarios on one market: `python -m tests.simulation.cases NAME...` prints the outcome of each as JSON."""

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from k2.ops.failpoints import JOB_NAMES, Name
from tests.simulation.market import Market, publish
from tests.simulation.plan import Fault, Life, Plan
from tests.simulation.run import play
from tests.simulation.stocks import with_corrections
from tests.simulation.warm import warm

__all__ = ["CASES", "kill_at"]

MARKET: Final[Market] = publish(3, multi_partition=False)
"""A market whose dead letters fill several files, and that has events in every part."""
CORRECTED: Final[Market] = with_corrections(publish(3, multi_partition=False), 3)
"""The same market with a partition of corrections."""
HIT: Final = 3
"""Which hit of a failpoint to fault: the third, so that something is committed first."""


def _life(share: float, *faults: tuple[Name, int, str], market: Market = MARKET, **more: Any) -> Life:
    ends = {partition: int(log.end * share) for partition, log in market.logs.items()}
    return Life(1, 0, ends, tuple(Fault(*fault) for fault in faults), **more)


def kill_at(name: Name) -> tuple[Life, ...]:
    """Return lives, the last of which is killed at a failpoint that it certainly hits."""
    match name:
        case "letters.cut" | "letters.truncated":
            # A crash left dead letters that no commit counts, in a new file: the next start removes them.
            return _life(0.6, ("commit.staged", HIT, "kill")), _life(1, (name, 1, "kill"))
        case "events.rolling_back" | "events.rolled_back":
            # The ledger is ahead of a table that was rolled back.
            return _life(0.3), _life(0.6), _life(1, (name, 1, "kill"), store="lost", is_put_back=True)
        case "corrections.pending" | "corrections.committed":
            return (_life(1, (name, HIT, "kill"), market=CORRECTED),)
    return (_life(1, (name, HIT, "kill")),)


CASES: Final[Mapping[str, tuple[Life, ...]]] = {
    **{name: kill_at(name) for name in JOB_NAMES},
    "zombie that committed a part": (_life(0.6, ("commit.seen", 4, "freeze")), _life(1, is_elsewhere=True)),
    "zombie whose events were rolled back": (
        _life(0.6, ("events.committed", 1, "freeze")),
        _life(1, ("events.rolled_back", 1, "kill"), is_elsewhere=True),
        _life(1, is_back=True),
    ),
    "zombie with pending corrections": (
        _life(0.6, ("corrections.pending", 1, "freeze"), market=CORRECTED),
        _life(1, is_elsewhere=True, market=CORRECTED),
    ),
    "corrections that a table lacks": (
        _life(0.3, market=CORRECTED),
        _life(0.6, market=CORRECTED),
        _life(1, ("corrections.pending", 1, "kill"), market=CORRECTED, store="lost", is_put_back=True),
    ),
    "instance next to a frozen one": (_life(0.6, ("source.polled", 9, "freeze")), _life(1, refused="second")),
    "store ahead of the table": (_life(0.3), _life(0.6), _life(1, refused="ahead")),
    "topic cut short": (_life(0.6), _life(1, refused="shorter")),
    "topic expired behind a store": (
        _life(0.6, ("trades.snapshot", HIT, "kill")),
        _life(0.6, store="none"),
        _life(1, is_expired=True),
    ),
    "committed, expired, and never reported": (
        _life(0.6, *(("commit.landed", HIT, kind) for kind in ("append", "expire", "lost"))),
    ),
    "compacted while a commit is staged": (
        _life(0.6, ("commit.staged", HIT, "append"), ("commit.staged", HIT, "compact")),
    ),
}
"""The lives of each, before a last one that ends by itself after everything is published."""


def _outcome(name: str) -> dict[str, Any]:
    market = CORRECTED if "corrections" in name else MARKET
    lives = (*CASES[name], _life(1, market=market))
    outcome = play(market, Plan(seed=0, writers=2, dead_letter_file_bytes_max=400, lives=lives))
    counts = {count: getattr(outcome, count) for count in ("crashes", "refused", "fenced")}
    return {**counts, "violations": outcome.violations, "lives": outcome.lives}


def main() -> None:
    """Print `{name: {"crashes": number, "refused": number, "fenced": number, "violations": [...], "lives": [...]}}`."""
    names = sys.argv[1:] or list(CASES)
    warm()
    # Forked, as in `tests.simulation`.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("fork")) as pool:
        json.dump(dict(zip(names, pool.map(_outcome, names), strict=True)), sys.stdout)


if __name__ == "__main__":
    main()

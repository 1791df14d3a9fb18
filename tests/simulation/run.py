"""One seed from its first life to its last check."""

import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from bytewax.recovery import init_db_dir

from runtime.failpoints import Name
from runtime.settings import Settings
from tests.simulation.checks import Fault, after_crash, at_end, late_letters
from tests.simulation.found import look
from tests.simulation.life import Passings, live, settings_of
from tests.simulation.market import Market, publish
from tests.simulation.oracle import know
from tests.simulation.plan import Life, make_plan

__all__ = ["Outcome", "simulate"]

MEMORY: Final = Path("/dev/shm")  # noqa: S108  a file system in memory, where there is one
STORE_PARTITIONS: Final = 2
SAID_BYTES_MAX: Final = 6_000


@dataclass
class Outcome:
    """What one seed came to."""

    seed: int
    lives: list[str] = field(default_factory=list)
    """Each life and how it ended."""
    faults: list[Fault] = field(default_factory=list)
    crashes: int = 0
    rescales: int = 0
    rows: int = 0
    """Rows checked, at each look."""
    lacking_letters: int = 0
    """Dead letters that a crash left out of the files until the next life, though the table counts them."""
    double_letters: int = 0
    """Dead letters that a crash left twice until the next life."""
    passings: Counter[Name] = field(default_factory=Counter)


def simulate(seed: int, *, across: bool, keep: Path | None = None) -> Outcome:
    """Run one seed; the first fault ends it. What is on disk then is left in `keep`, if that is given."""
    outcome = Outcome(seed)
    folder = Path(tempfile.mkdtemp(prefix="k2-simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        _live_all(outcome, folder, across=across)
    except Exception:  # noqa: BLE001  what breaks the simulator is that seed's fault, and others go on
        outcome.faults.append(("wrong", f"the simulation broke: {traceback.format_exc()}"))
    finally:
        if keep is not None and outcome.faults:
            shutil.copytree(folder, keep / str(seed), dirs_exist_ok=True)
        shutil.rmtree(folder)
    return outcome


def _live_all(outcome: Outcome, folder: Path, *, across: bool) -> None:
    market = publish(outcome.seed, across=across)
    truth, plan = know(market), make_plan(outcome.seed, market)
    settings, passings = settings_of(folder, market, plan), Passings()
    files: dict[str, list[dict[str, Any]]] = {}
    workers = plan.lives[0].workers
    for number, life in enumerate(plan.lives):
        outcome.rescales += life.workers != workers
        workers = life.workers
        is_last = number + 1 == len(plan.lives)
        _live_one(outcome, folder, market, life, settings, Random(f"life {plan.seed} {number}"), passings)
        if not outcome.faults:
            found = look(settings.data_dir, files)
            outcome.rows += len(found.rows)
            outcome.faults += (at_end if is_last else after_crash)(found, truth, market)
            lacking, double = late_letters(found, truth)
            outcome.lacking_letters += lacking
            outcome.double_letters += double
        if outcome.faults:
            return


def _live_one(
    outcome: Outcome,
    folder: Path,
    market: Market,
    life: Life,
    settings: Settings,
    rng: Random,
    passings: Passings,
) -> None:
    _treat_store(folder, life.store)
    ended = live(folder, market, life, settings, rng, passings)
    outcome.passings.update(passings.each())
    outcome.lives.append(f"{life}: {ended.how}")
    outcome.crashes += ended.how == "crashed"
    if ended.how in {"failed", "hung"}:
        outcome.faults.append(("wrong", f"a life {ended.how}: {ended.said[-SAID_BYTES_MAX:]}"))


def _treat_store(folder: Path, treatment: str) -> None:
    """Do to the recovery store what the plan says, and keep a copy of it for a later life to go back to."""
    store, older = folder / "recovery", folder / "recovery-older"
    if treatment == "older" and older.exists():
        shutil.rmtree(store)
        shutil.copytree(older, store)
        return
    if treatment == "lost" and store.exists():
        shutil.rmtree(store)
    if not store.exists():
        store.mkdir()
        init_db_dir(store, STORE_PARTITIONS)
    shutil.rmtree(older, ignore_errors=True)
    shutil.copytree(store, older)

"""One seed, from its first life to its last check."""

import re
import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from k2.ops.failpoints import Name
from tests.simulation.checks import Violation, after_crash, at_end
from tests.simulation.disk_state import DiskState, read_disk
from tests.simulation.disks import Disks
from tests.simulation.life import Ended, LifeEnvironment, Running, run_other_writer, start_life
from tests.simulation.market import Market, publish
from tests.simulation.mutate import Mutant
from tests.simulation.numbered import publish_numberings
from tests.simulation.object_store import replace_object_store, with_object_faults
from tests.simulation.oracle import expected_results
from tests.simulation.other_writer import OtherWriter
from tests.simulation.plan import REFUSALS, Life, Plan, make_plan
from tests.simulation.source import Window
from tests.simulation.stocks import CORRECTED_EVERY, with_corrections

__all__ = ["MULTI_PARTITION_EVERY", "Outcome", "is_corrected", "is_multi_partition", "is_numbered", "play", "simulate"]

MEMORY: Final = Path("/dev/shm")  # noqa: S108  a file system in memory, where there is one
MULTI_PARTITION_EVERY: Final = 4
"""At one seed in this many a symbol's trades are in several partitions, unless another number is given."""
NUMBERED_EVERY: Final = 4
"""At one seed in this many the numbering itself is hard to judge."""
STDERR_CHARACTERS_MAX: Final = 6_000
MISSED_CHECKPOINT: Final = re.compile(r"checkpoint_unreadable|checkpoints_incomplete")
"""What a life logs that finds a checkpoint damaged."""
FENCED: Final = "another instance writes to table"


@dataclass
class Outcome:
    """The result of one seed."""

    seed: int
    lives: list[str] = field(default_factory=list)
    """Each life and how it ended."""
    violations: list[Violation] = field(default_factory=list)
    crashes: int = 0
    rescales: int = 0
    frozen: int = 0
    fenced: int = 0
    """Frozen lives that were resumed after another had taken over, and detected it."""
    refused: int = 0
    rows: int = 0
    """Rows checked, summed over all checks."""
    pending_dead_letters: int = 0
    """Dead letters that a crash left in the files without a commit that counts them."""
    hits: Counter[Name] = field(default_factory=Counter)


def is_multi_partition(seed: int, every: int) -> bool:
    """Return whether a seed's symbols are in several partitions: one seed in `every`, none if it is 0."""
    return every > 0 and seed % every == every - 1


def is_numbered(seed: int, *, multi_partition: bool) -> bool:
    """Return whether a seed's feeds are those of `tests.simulation.numbered`."""
    return not multi_partition and seed % NUMBERED_EVERY == 0


def is_corrected(seed: int, *, multi_partition: bool) -> bool:
    """Return whether a seed has a partition with corrections."""
    return not multi_partition and seed % CORRECTED_EVERY == 2


def simulate(
    seed: int,
    *,
    multi_partition: bool,
    mutant: Mutant | None = None,
    keep: Path | None = None,
    is_object_store: bool = False,
) -> Outcome:
    """Run one seed; the first violation ends it and leaves its disk state in `keep`, if that is given."""
    is_hard = is_numbered(seed, multi_partition=multi_partition)
    market = publish_numberings(seed // NUMBERED_EVERY) if is_hard else publish(seed, multi_partition=multi_partition)
    if is_corrected(seed, multi_partition=multi_partition):
        market = with_corrections(market, seed)
    return play(market, make_plan(seed, market), mutant=mutant, keep=keep, is_object_store=is_object_store)


def play(
    market: Market,
    plan: Plan,
    *,
    mutant: Mutant | None = None,
    keep: Path | None = None,
    is_object_store: bool = False,
) -> Outcome:
    """Run the lives of a plan, and check after each; with `is_object_store` its dead letters are objects."""
    if is_object_store:
        replace_object_store()
        plan = with_object_faults(plan)
    folder = Path(tempfile.mkdtemp(prefix="k2-simulation-", dir=MEMORY if MEMORY.is_dir() else None))
    disks = Disks(folder, market, plan, is_object_store=is_object_store)
    simulation = _Simulation(market, plan, disks, mutant)
    outcome = simulation.outcome
    try:
        simulation.run()
    except Exception:  # noqa: BLE001  an error of the simulator fails its seed, and others go on
        outcome.violations.append(Violation("wrong", f"the simulation broke: {traceback.format_exc()}"))
    finally:
        simulation.close()
        if keep is not None and outcome.violations:
            shutil.copytree(folder, keep / str(plan.seed), dirs_exist_ok=True)
        shutil.rmtree(folder)
    return outcome


class _Simulation:
    """The state of one simulation between its lives."""

    def __init__(self, market: Market, plan: Plan, disks: Disks, mutant: Mutant | None) -> None:
        self.outcome = Outcome(plan.seed)
        self._market, self._plan, self._disks, self._mutant = market, plan, disks, mutant
        self._expected = expected_results(market)
        rng = Random(f"foreign {plan.seed}")
        self._other_writer = OtherWriter(disks.data, self._expected.trades, disks.journal, rng)
        self._files: dict[str, list[dict[str, Any]]] = {}
        self._states = [DiskState()]
        self._workers = plan.lives[0].workers
        self._frozen: Running | None = None
        self._is_at_rest = False
        """Whether the last life finished, so that the recovery store knows what the table has."""
        self._are_checkpoints_whole = True

    def run(self) -> None:
        """Run all lives, up to the first violation."""
        for number, life in enumerate(self._plan.lives):
            if self._is_possible(life):
                self._play_life(number, life)
            if self.outcome.violations:
                return

    def close(self) -> None:
        """Stop the processes that remain."""
        if self._frozen is not None:
            self._frozen.kill()

    def _is_possible(self, life: Life) -> bool:
        """Return whether the condition exists that a life is to be rejected for."""
        match life.refused:
            case "second":
                return self._frozen is not None
            case "shorter":
                return any(self._states[-1].reached().get(partition) for partition in life.ends)
            case "ahead":
                return self._is_at_rest and self._earlier() is not None
        return True

    def _earlier(self) -> DiskState | None:
        """Return an earlier state of the table with less of the job's rows; its files must still exist."""
        now = self._states[-1]
        earlier = (state for state in self._states if now.is_ahead_of(state) and now.foreign == state.foreign)
        return next((state for state in earlier if all(Path(file).exists() for file in state.files)), None)

    def _play_life(self, number: int, life: Life) -> None:
        before = self._frozen
        self._prepare(life)
        self._check_ending(life, self._run_life(number, life))
        if before is not None and not self.outcome.violations:
            self._resume_frozen(life, before)

    def _prepare(self, life: Life) -> None:
        if life.is_elsewhere or life.is_back:
            self._disks.move(0 if life.is_back else 1)
        if not life.refused:
            self._disks.treat_store(life.store)
        if life.is_ledger_dropped:
            self._disks.drop_ledger()
        is_damaged = self._disks.damage_checkpoints(life.checkpoints)
        self._are_checkpoints_whole &= not (is_damaged or life.is_put_back or life.is_ledger_dropped)
        if life.before:
            ended = run_other_writer(self._other_writer, life.before, self._disks.stderr_file("foreign"))
            self._note(ended, "another writer", is_right=ended.how == "finished")
        self.outcome.rescales += life.workers != self._workers
        self._workers = life.workers

    def _run_life(self, number: int, life: Life) -> Ended:
        environment = LifeEnvironment(
            market=self._market,
            window=self._window(life),
            settings=self._disks.settings(),
            store=self._disks.store,
            other_writer=self._other_writer,
            rng=Random(f"life {self._plan.seed} {number}"),
            mutant=self._mutant,
        )
        earlier = self._earlier() if life.refused == "ahead" or life.is_put_back else None
        newest = self._disks.point_to(earlier.files[0]) if earlier else ""
        running = start_life(life, environment, self._disks.stderr_file(number))
        ended = running.wait()
        if life.refused and newest:
            self._disks.point_to(newest)
        if ended.how == "frozen":
            self._frozen = running
        self.outcome.hits.update(running.hits.by_name())
        self.outcome.lives.append(f"{life}: {ended.how}")
        return ended

    def _window(self, life: Life) -> Window:
        ends, reached = dict(life.ends), self._states[-1].reached()
        if life.refused == "shorter":
            partition = next(partition for partition in sorted(ends) if reached.get(partition))
            ends[partition] = reached[partition] - 1
        return Window(ends, reached if life.is_expired else {})

    def _check_ending(self, life: Life, ended: Ended) -> None:
        self.outcome.crashes += ended.how == "crashed"
        self.outcome.frozen += ended.how == "frozen"
        self._is_at_rest = ended.how == "finished" and life.store != "none"
        if life.refused:
            self.outcome.refused += 1
            is_right = ended.how == "failed" and REFUSALS[life.refused] in ended.stderr
        else:
            is_right = ended.how in {"crashed", "finished", "frozen"}
        is_right = is_right and not (self._are_checkpoints_whole and MISSED_CHECKPOINT.search(ended.stderr))
        self._note(ended, "a life", is_right=is_right)
        self._check(is_last=life is self._plan.lives[-1])

    def _resume_frozen(self, life: Life, frozen: Running) -> None:
        """Resume a frozen life after another ran: it is fenced, unless that one was rejected or did nothing."""
        self._frozen = None
        ended = frozen.resume()
        self.outcome.lives[-1] += f"; the frozen one then {ended.how}"
        is_fenced = ended.how == "failed" and FENCED in ended.stderr
        self.outcome.fenced += is_fenced
        is_right = ended.how == "finished" or (is_fenced and not life.refused)
        self._is_at_rest = False
        self._note(ended, "the frozen life", is_right=is_right)
        self._check(is_last=life is self._plan.lives[-1])

    def _check(self, *, is_last: bool) -> None:
        if self.outcome.violations:
            return
        state = read_disk(self._disks.data, self._disks.all_dead_letters(), self._files)
        if self._disks.is_object_store:
            # They stay there, and nothing reads them.
            state.pending_dead_letters = 0
        self._states.append(state)
        self.outcome.rows += len(state.rows)
        check = at_end if is_last else after_crash
        self.outcome.violations += check(state, self._expected, self._market, self._disks.journal)
        self.outcome.pending_dead_letters += state.pending_dead_letters

    def _note(self, ended: Ended, who: str, *, is_right: bool) -> None:
        if not is_right:
            stderr = f"{_first_error(ended.stderr)}\n{ended.stderr[-STDERR_CHARACTERS_MAX:]}"
            self.outcome.violations.append(Violation("wrong", f"{who} {ended.how}: {stderr}"))


def _first_error(stderr: str) -> str:
    """Return the first error on a standard error, which caused the others."""
    named = re.findall(r"^(?:\w+\.)*((?!Bytewax)[A-Z]\w*(?:Error|Exception)\b.*)$", stderr, re.MULTILINE)
    return named[0] if named else "no error is named"

"""The plan of one simulation: its lives, and how each of them ends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final, NamedTuple

from k2.ops.failpoints import JOB_NAMES, Name
from tests.simulation.market import Market, PartitionKey, has_mostly_ids
from tests.simulation.other_writer import ACTS

__all__ = ["ENDING", "REFUSALS", "Fault", "Life", "Plan", "make_plan"]

HIT_ONCE: Final = ("letters.cut", "letters.truncated", "events.rolling_back", "events.rolled_back")
CORRECTIONS: Final[tuple[Name, ...]] = ("corrections.pending", "corrections.committed")
"""Failpoints that only a market with corrections passes."""
POINTS: Final = tuple(name for name in JOB_NAMES if name not in CORRECTIONS)
ENDING: Final = frozenset({"kill", "raise", "outage", "permanent"})
"""Kinds of faults after which a life cannot continue."""
ANSWERS: Final = ("lost", "reset", "unknown", "conflict", "conflict")
RETRIED: Final[tuple[Name, ...]] = ("file.create", "file.written", "commit.staged", "letters.append")
"""Failpoints at which a transient fault is retried."""
REFUSALS: Final[Mapping[str, str]] = {
    "second": "another execution",
    "ahead": "the recovery store is ahead of table",
    "shorter": "the topic was recreated or lost data",
}
"""The error of a life that must not start: next to a frozen one, with a store ahead of the table, on a cut topic."""


class Fault(NamedTuple):
    """What happens at the n-th hit of a failpoint (of any, if `name` is None).

    `kill` and `raise` end the life; so do an `outage`, which lasts for every hit from then on, and a `permanent`
    fault. A `transient` one is gone on the next try. `lost`, `reset`, `unknown` and `conflict` are wrong responses to a
    commit that was applied. `freeze` stops the process until others have run. Those of `ACTS` are performed by another
    writer of the tables.
    """

    name: Name | None
    hit: int
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.name or 'any point'}:{self.hit}"


@dataclass(frozen=True)
class Life:
    """One run of the job, from its start to its end or crash."""

    workers: int
    epoch_milliseconds: int
    ends: Mapping[PartitionKey, int]
    """The end of each partition that exists."""
    faults: tuple[Fault, ...] = ()
    store: str = "kept"
    """What happens to the recovery store: `kept`, `lost` (created again), `older` (of two lives ago), `none` given."""
    checkpoints: str = "kept"
    """What happens to the checkpoints: `kept`, `removed`, `newest removed`, `torn` (one of two is cut or changed)."""
    before: tuple[str, ...] = ()
    """What other writers do to the tables before it."""
    is_elsewhere: bool = False
    """Whether it runs on another machine, which shares only the tables, not the recovery store and dead letters."""
    is_back: bool = False
    """Whether it runs on the first machine again, with its former disks."""
    is_expired: bool = False
    """Whether the topics have lost messages that are in the table."""
    is_put_back: bool = False
    """Whether the table `trades` is rolled back to an older state, as by a restored catalog."""
    is_ledger_dropped: bool = False
    """Whether the ledger is dropped, and no recovery store knows it either."""
    refused: str | None = None
    """Why it must not start, one of `REFUSALS`."""

    def __str__(self) -> str:
        what = [f"{self.workers} workers", f"epochs of {self.epoch_milliseconds} ms", f"store {self.store}"]
        what += [f"checkpoints {self.checkpoints}"] * (self.checkpoints != "kept")
        what += [f"{act} before" for act in self.before]
        what += ["elsewhere"] * self.is_elsewhere + ["back"] * self.is_back + ["topics expired"] * self.is_expired
        what += ["table put back"] * self.is_put_back + ["ledger dropped"] * self.is_ledger_dropped
        what += [f"to be refused ({self.refused})"] * bool(self.refused)
        return f"{', '.join(what)}: {', '.join(map(str, self.faults)) or 'no fault'}"


@dataclass(frozen=True)
class Plan:
    """One simulation, entirely determined by its seed."""

    seed: int
    writers: int
    dead_letter_file_bytes_max: int
    lives: tuple[Life, ...]


def make_plan(seed: int, market: Market) -> Plan:
    """Choose two to five lives that crash, and a last one that ends by itself after everything is published."""
    rng = Random(f"plan {seed} {market.is_multi_partition}")
    crashing = rng.randint(2, 5)
    shares = sorted(rng.choice([1.0, rng.random()]) for _ in range(crashing))
    if has_mostly_ids(seed):
        # Each life reads as much as the others, so that a later one needs the ids of each one before.
        shares = [(number + 1) / (crashing + 1) for number in range(crashing)]
    is_hidden = rng.random() < 0.2
    lives = [
        _life(rng, _ends(market, share, is_hidden=is_hidden and n == 0), tuple(_faults(rng)))
        for n, share in enumerate(shares)
    ]
    lives.append(replace(_life(rng, _ends(market, 1.0, is_hidden=False), ()), is_expired=rng.random() < 0.2))
    rng.choices([_add_nothing, _add_second_instance, _add_refused], [10, 5, 5])[0](rng, lives)
    lives = list(_with_ledgers_dropped(Random(f"ledger {seed}"), lives))
    lives = list(_with_checkpoints_damaged(Random(f"checkpoints {seed}"), lives))
    if any(log.venue == "alpaca" for log in market.logs.values()):
        lives = list(_with_faults_of_corrections(Random(f"corrections {seed}"), lives))
    return Plan(seed, rng.choice([1, 2]), rng.choice([400, 3_000, 10**8]), tuple(lives))


def _with_ledgers_dropped(rng: Random, lives: list[Life]) -> Iterator[Life]:
    """Drop the ledger before some lives whose store is gone, if nothing that knows it is restored later."""
    for place, life in enumerate(lives):
        before, later = lives[place - 1], lives[place + 1 :]
        is_free = place > 0 and not any(fault.kind == "freeze" for fault in before.faults)
        is_alone = is_free and not (life.refused or life.is_elsewhere or life.is_back or life.is_put_back)
        is_gone = life.store == "lost" or (life.store == "none" and (not later or later[0].store == "lost"))
        is_gone = is_gone and not any(other.is_put_back for other in later)
        is_dropped = rng.random() < 0.5 and is_gone and is_alone
        yield replace(life, is_ledger_dropped=True, before=()) if is_dropped else life


def _with_faults_of_corrections(rng: Random, lives: list[Life]) -> Iterator[Life]:
    """End some lives, or freeze them, between the commits to `trades` and to `corrections`."""
    for life in lives:
        faults = [
            fault._replace(name=rng.choice(CORRECTIONS), hit=rng.choice([1, 1, 2, 3]))
            if fault.kind in {"kill", "raise", "freeze"} and rng.random() < 0.5
            else fault
            for fault in life.faults
        ]
        yield replace(life, faults=tuple(faults))


def _with_checkpoints_damaged(rng: Random, lives: list[Life]) -> Iterator[Life]:
    """Damage the checkpoints before some lives."""
    for life in lives:
        (damage,) = rng.choices(["kept", "removed", "newest removed", "torn"], [8, 1, 1, 1])
        yield replace(life, checkpoints=damage)


def _life(rng: Random, ends: Mapping[PartitionKey, int], faults: tuple[Fault, ...]) -> Life:
    return Life(
        workers=rng.choice([1, 1, 2, 3]),
        epoch_milliseconds=rng.choice([0, 0, 2, 10]),
        ends=ends,
        faults=faults,
        store=rng.choices(["kept", "lost", "older", "none"], [14, 2, 1, 4])[0],
        before=tuple(rng.choices(ACTS, k=rng.choice([0, 0, 0, 0, 0, 0, 1, 2]))),
    )


def _ends(market: Market, share: float, *, is_hidden: bool) -> dict[PartitionKey, int]:
    """Show a share of each partition; a hidden partition is added to the topic later."""
    ends = {partition: int(log.end * share) for partition, log in market.logs.items()}
    if is_hidden and len(ends) > 1:
        del ends[max(ends)]
    return ends


def _add_nothing(_rng: Random, _lives: list[Life]) -> None:
    pass


def _add_refused(rng: Random, lives: list[Life]) -> None:
    """Start a life with a store ahead of a table that was rolled back, or on truncated topics."""
    place = rng.randint(2, len(lives) - 1)
    refused = rng.choice(["ahead", "shorter"])
    if refused == "ahead":
        # Ending by itself makes its store as new as the table.
        lives[place - 1] = replace(lives[place - 1], faults=())
        if rng.random() < 0.5:
            lives[place] = replace(lives[place], store="lost", before=(), is_put_back=True, is_expired=False)
    lives.insert(place, replace(lives[place], faults=(), before=(), store="kept", refused=refused, is_put_back=False))


def _add_second_instance(rng: Random, lives: list[Life]) -> None:
    """Freeze a life; the next one runs elsewhere or is rejected next to it; then the first is resumed."""
    place = rng.randint(0, len(lives) - 2)
    # One worker, or the process might be frozen while another thread has locked the catalog.
    lives[place] = frozen = replace(lives[place], workers=1, faults=(Fault(*_point(rng), "freeze"),))
    if rng.random() < 0.4:
        lives[place] = frozen = replace(frozen, store=frozen.store.replace("none", "kept"))
        lives.insert(place + 1, replace(frozen, faults=(), before=(), store="kept", refused="second"))
    else:
        lives[place + 1] = replace(lives[place + 1], is_elsewhere=True, is_expired=False)
        if place + 2 < len(lives) and rng.random() < 0.5:
            lives[place + 2] = replace(lives[place + 2], is_back=True, is_expired=False)


def _faults(rng: Random) -> list[Fault]:
    faults: list[Fault] = []
    at: Name
    hit = rng.choice([1, 1, 2, 3])
    if rng.random() < 0.1:
        at = rng.choice(["commit.staged", "commit.landed", "commit.seen"])
        faults += [Fault(at, hit, act) for act in rng.choices(ACTS, k=rng.randint(1, 2))]
    if rng.random() < 0.4:
        faults.append(Fault("commit.landed", hit, rng.choice(ANSWERS)))
    if rng.random() < 0.15:
        faults.append(Fault(rng.choice(RETRIED), rng.randint(1, 4), "transient"))
    if rng.random() < 0.15:
        at = rng.choice([*RETRIED, "letters.fsync"])
        return [*faults, Fault(at, rng.randint(1, 4), rng.choice(["outage", "permanent"]))]
    return [*faults, Fault(*_point(rng), rng.choice(["kill", "kill", "kill", "raise"]))]


def _point(rng: Random) -> tuple[Name | None, int]:
    if rng.random() < 0.25:
        return None, rng.randint(5, 120)
    name = rng.choice(POINTS)
    return name, 1 if name in HIT_ONCE else 1 + int(rng.expovariate(0.4))

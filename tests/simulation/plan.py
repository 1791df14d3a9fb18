"""What befalls the job in one simulation: its lives, and how each of them ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from runtime.failpoints import NAMES, Name
from tests.simulation.market import Market, Where

__all__ = ["Fault", "Life", "Plan", "make_plan"]

RAISED_ONCE: Final = ("letters.kept", "letters.resumed", "events.withdrawing", "events.withdrawn")
ANSWERS: Final = ("lost", "conflict")


class Fault(NamedTuple):
    """What happens at the n-th passing of a failpoint (of any, where `name` is None)."""

    name: Name | None
    passing: int
    kind: str
    """`kill` and `raise` end the life; `lost` and `conflict` are wrong answers to a commit that landed."""

    def __str__(self) -> str:
        return f"{self.kind} at {self.name or 'any point'}:{self.passing}"


@dataclass(frozen=True)
class Life:
    """One run of the job, from its start to its end or crash."""

    workers: int
    epoch_milliseconds: int
    ends: Mapping[Where, int]
    """How far each partition goes that is there."""
    faults: tuple[Fault, ...]
    store: str
    """What becomes of the recovery store before: `kept`, `lost` (made anew) or `older` (that of two lives ago)."""

    def __str__(self) -> str:
        faults = ", ".join(map(str, self.faults)) or "no fault"
        return f"{self.workers} workers, epochs of {self.epoch_milliseconds} ms, store {self.store}: {faults}"


@dataclass(frozen=True)
class Plan:
    """One simulation, all of it given by its seed."""

    seed: int
    writers: int
    letter_file_bytes_max: int
    lives: tuple[Life, ...]


def make_plan(seed: int, market: Market) -> Plan:
    """Choose two to five lives that are to crash, and a last one that ends by itself with all that was published."""
    rng = Random(f"plan {seed} {market.is_across}")
    crashing = rng.randint(2, 5)
    shares = sorted(rng.choice([1.0, rng.random()]) for _ in range(crashing))
    is_hidden = rng.random() < 0.2
    lives = [_life(rng, _ends(market, share, is_hidden=is_hidden and n == 0)) for n, share in enumerate(shares)]
    lives.append(_life(rng, _ends(market, 1.0, is_hidden=False), last=True))
    return Plan(seed, rng.choice([1, 2]), rng.choice([400, 3_000, 10**8]), tuple(lives))


def _life(rng: Random, ends: Mapping[Where, int], *, last: bool = False) -> Life:
    return Life(
        workers=rng.choice([1, 1, 2, 3]),
        epoch_milliseconds=rng.choice([0, 0, 2, 10]),
        ends=ends,
        faults=() if last else tuple(_faults(rng)),
        store=rng.choices(["kept", "lost", "older"], [18, 1, 1])[0],
    )


def _ends(market: Market, share: float, *, is_hidden: bool) -> dict[Where, int]:
    """Show a share of each partition; where one is hidden, it is added to the topic later."""
    ends = {where: int(log.end * share) for where, log in market.logs.items()}
    if is_hidden and len(ends) > 1:
        del ends[max(ends)]
    return ends


def _faults(rng: Random) -> list[Fault]:
    faults = []
    if rng.random() < 0.25:
        faults.append(Fault("commit.landed", rng.randint(1, 4), rng.choice(ANSWERS)))
    kind = rng.choice(["kill", "kill", "kill", "raise"])
    if rng.random() < 0.25:
        return [*faults, Fault(None, rng.randint(5, 250), kind)]
    name = rng.choice(NAMES)
    passing = 1 if name in RAISED_ONCE else 1 + int(rng.expovariate(0.4))
    return [*faults, Fault(name, passing, kind)]

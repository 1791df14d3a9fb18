"""A venue that trades, and its connection to Kafka: the source of messages for tests of numbering."""

from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

__all__ = ["HOUR", "MS", "SECOND", "Feed", "Script", "Sent"]

MS: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
START: Final = 1_700_000_000 * SECOND


class Sent(NamedTuple):
    """One message; times in microseconds."""

    sequence: int
    price: int
    quantity: int
    side: int
    trade_id: str | None
    timestamp: int
    kafka_timestamp: int
    numbering: int = 1
    """Which true numbering its trade belongs to."""
    is_correction: bool = False
    """Whether it is a correction: other content under the number of a trade that was sent before."""

    @property
    def trade(self) -> tuple[int, int, str | None]:
        """The true trade of the message."""
        return self.numbering, self.sequence, self.trade_id


@dataclass
class Script:
    """What one seed's feed sends."""

    kind: str
    sent: list[Sent]
    restarts: int = 0
    """How often numbering restarts."""


@dataclass
class Feed:
    """A venue that trades, and its connection to Kafka."""

    rng: Random
    sent: list[Sent] = field(default_factory=list)
    venue_clock: int = START
    kafka_clock: int = START + 5 * MS
    skew: int = 0
    """How far the venue's clock is ahead; behind if negative."""
    numbering: int = 1
    next_number: int = 1
    step: int = 20 * MS
    resolution: int = 1

    def trade(self) -> Sent:
        """Make the next trade."""
        wait = self.rng.randint(1, self.step)
        self.venue_clock += wait
        self.kafka_clock = max(self.kafka_clock + 1, self.venue_clock + self.rng.randint(MS, 40 * MS))
        at = (self.venue_clock + self.skew) // self.resolution * self.resolution
        made = Sent(
            self.next_number,
            self.rng.randint(10**6, 10**7),
            self.rng.randint(1, 10**6),
            self.rng.randint(0, 2),
            None,
            at,
            self.kafka_clock,
            self.numbering,
        )
        self.next_number += 1
        return made

    def live(self, count: int, *, loss: float = 0.0) -> list[Sent]:
        """Send trades as they happen; return those that were lost on the way."""
        lost = []
        for place in range(count):
            made = self.trade()
            if 0 < place < count - 1 and self.rng.random() < loss:
                lost.append(made)
            else:
                self.sent.append(made)
        return lost

    def again(self, one: Sent, **changes: object) -> None:
        """Send a trade again, as a separate message, with its own time unless changed."""
        self.kafka_clock += self.rng.randint(1, MS)
        self.venue_clock = max(self.venue_clock, self.kafka_clock - 5 * MS)
        self.sent.append(one._replace(**{"kafka_timestamp": self.kafka_clock, **changes}))  # type: ignore[arg-type]

    def now(self) -> int:
        """Return the time of a message that is sent now."""
        return self.venue_clock + self.skew

    def restart(self, first: int = 1, *, pause: int = 0) -> None:
        """Restart numbering."""
        self.numbering += 1
        self.next_number = first
        self.venue_clock += pause
        self.kafka_clock = max(self.kafka_clock, self.venue_clock)

    def corrected(self, one: Sent) -> dict[str, object]:
        """Return the fields of a correction."""
        return {"price": one.price + self.rng.randint(1, 1_000), "is_correction": True}

    def old(self, count: int) -> list[Sent]:
        """Choose some true trades that were sent earlier."""
        true = [one for one in self.sent if not one.is_correction]
        return [true[self.rng.randrange(len(true))] for _ in range(count)]

"""Decisions on missing numbers: a range is accepted as missing for good, or an acceptance is undone.

A decision is a row of the ledger that no message caused, so it has Kafka coordinates that no message has. A start that
rolls back the events of uncommitted messages therefore never selects it.
"""

from enum import StrEnum
from typing import Final, NamedTuple

from k2.model.errors import SettingsError
from k2.model.sequence_events import EventKind

__all__ = [
    "NO_OFFSET",
    "NO_PARTITION",
    "NO_TOPIC",
    "TEXT_BYTES_MAX",
    "Decision",
    "Witness",
    "WitnessKind",
    "checked_text",
    "reason_text",
]

NO_TOPIC: Final = ""
NO_PARTITION: Final = -1
NO_OFFSET: Final = -1
"""Kafka coordinates of a decision: the ledger requires some, and a message never has these."""
TEXT_BYTES_MAX: Final = 1_000
"""Of a reason, a name or a witness, as UTF-8."""


class WitnessKind(StrEnum):
    """Where a witness to a missing number comes from."""

    STREAM = "stream"
    """Another capture of the venue's live feed."""
    REST = "rest"
    """An answer of the venue's REST interface."""
    ARCHIVE = "archive"
    """A file of the venue's archive."""
    PERSON = "person"
    """Someone's word, such as the venue's support."""


class Witness(NamedTuple):
    """One source that does not have the missing numbers."""

    kind: WitnessKind
    text: str
    """Which one: a name, an address, or a checksum."""

    @classmethod
    def parse(cls, text: str) -> "Witness":
        """Parse `KIND:TEXT`.

        Raises:
            SettingsError: the kind is unknown, or there is no text.

        >>> Witness.parse("rest:https://api.example/trades?from=5")
        Witness(kind=<WitnessKind.REST: 'rest'>, text='https://api.example/trades?from=5')
        """
        kind, _, what = text.partition(":")
        if kind not in {*WitnessKind} or not what.strip():
            raise SettingsError(f"--witness {text!r}: not a witness; use KIND:TEXT with {', '.join(WitnessKind)}")
        return cls(WitnessKind(kind), what.strip())


class Decision(NamedTuple):
    """A decision on a range of numbers of one session."""

    exchange: str
    symbol: str
    session: int
    event: EventKind
    """`GAP_ACCEPTED` or `GAP_ACCEPTANCE_UNDONE`."""
    first_sequence: int
    last_sequence: int
    """Inclusive."""
    decided_at: int
    """Microseconds since the epoch, UTC."""
    reason: str
    decided_by: str

    @property
    def numbers(self) -> int:
        """Number of sequence numbers in the range."""
        return self.last_sequence - self.first_sequence + 1


def reason_text(reason: str, witnesses: tuple[Witness, ...]) -> str:
    """Return the reason with its witnesses, as the ledger records it.

    An archive, a REST answer or another capture may itself lack trades that existed, so none of them is enough alone:
    it needs a second witness of another kind. A reason without a witness is the word of the one who decides.

    Raises:
        SettingsError: the witnesses are not enough, or a text is empty, too long, or not UTF-8.

    >>> reason_text("never existed", (Witness.parse("archive:trades.zip"), Witness.parse("person:support")))
    'never existed (archive: trades.zip; person: support)'
    """
    kinds = {one.kind for one in witnesses}
    if len(kinds) == 1 and kinds != {WitnessKind.PERSON}:
        (kind,) = kinds
        raise SettingsError(
            f"--witness {kind}: one kind of witness does not prove that a trade never existed; "
            f"add one of another kind ({', '.join(one for one in WitnessKind if one is not kind)})"
        )
    named = "; ".join(f"{one.kind}: {one.text}" for one in witnesses)
    return checked_text("--reason", f"{reason.strip()} ({named})" if named and reason.strip() else reason.strip())


def checked_text(option: str, text: str) -> str:
    """Return a text that the ledger can hold.

    Raises:
        SettingsError: it is empty, has control characters, is longer than 1,000 bytes, or is not UTF-8.
    """
    if not text or not text.isprintable():
        raise SettingsError(f"{option} {text!r}: not a line of text; use at least one character, all of them printable")
    if len(text.encode(errors="replace")) > TEXT_BYTES_MAX:
        raise SettingsError(f"{option}: longer than {TEXT_BYTES_MAX:,} bytes with its witnesses; shorten it")
    return text

"""The language of a venue's table: what one page of TOML says about the messages of a venue."""

from datetime import date
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from k2.venues.table_fill import Fill

__all__ = [
    "Condition",
    "ConnectionNumbers",
    "CorrectionRule",
    "DecimalField",
    "Envelope",
    "IdPart",
    "MessageForm",
    "NameField",
    "NumberField",
    "RowKinds",
    "SideField",
    "Skip",
    "SkipReason",
    "TimeField",
    "VenueTable",
    "table_schema",
]

Value = str | int | bool
"""A value of a message that a table names."""
SkipReason = Literal["subscription_reply", "heartbeat", "status", "error", "other_channel"]
"""Why a table skips messages."""
JsonType = Literal["text", "number", "any"]
"""How a venue writes a number or a name in JSON: as text, as a number, or as either."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a table, in which an unknown key is an error."""


class Condition(Strict, frozen=True):
    """What the value of a field must be. A field that is absent fulfils only `absent`."""

    path: Annotated[str, Meta(description="The field, from the message's root; in a correction, from the entry.")]
    one_of: Annotated[list[Value] | None, Meta(description="The values that fulfil it.")] = None
    matches: Annotated[str | None, Meta(description="The regular expression that the whole text must match.")] = None
    present: Annotated[Literal[True] | None, Meta(description="Any value fulfils it.")] = None
    absent: Annotated[Literal[True] | None, Meta(description="Only the absence of the field, or null, fulfils it.")] = (
        None
    )


class Envelope(Strict, frozen=True):
    """The wrapper of a combined stream, which a message may have."""

    path: Annotated[str, Meta(description="Where the message is in the wrapper; it becomes the root.")]
    unless: Annotated[str, Meta(description="A field that only a message without a wrapper has.")]


class Skip(Strict, frozen=True):
    """Messages that are neither trades nor errors."""

    reason: Annotated[SkipReason, Meta(description="The reason by which the skipped messages are counted.")]
    texts: Annotated[list[str], Meta(description="Whole messages, for example a reply that is not JSON.")] = []
    when: Annotated[list[Condition], Meta(description="All of these must hold.")] = []


class MessageForm(Strict, frozen=True):
    """One form of the messages that have trades."""

    when: Annotated[list[Condition], Meta(description="All of these must hold; else the message is unsupported.")] = []
    trades: Annotated[
        str, Meta(description="Where the trades are, with [] for each list; empty if the message is the trade.")
    ] = ""
    order: Annotated[
        Literal["oldest_first", "newest_first"], Meta(description="The order of the trades in a message.")
    ] = "oldest_first"
    repeats: Annotated[
        bool, Meta(description="Whether the trades have usually been sent before: a snapshot on subscribing.")
    ] = False


class HeadForm(Strict, frozen=True):
    """Messages that name the last number of a symbol without being a trade: a heartbeat, or a ticker."""

    reason: Annotated[Literal["heartbeat", "other_channel"], Meta(description="The reason by which they are counted.")]
    when: Annotated[list[Condition], Meta(description="All of these must hold.", min_length=1)]
    number: Annotated["NumberField", Meta(description="The last number, from the message's root.")]
    none: Annotated[
        list[int], Meta(description="Values that are no number; such a message, and one without number, is skipped.")
    ] = []


class NameField(Strict, frozen=True):
    """The field of a name or an id."""

    path: Annotated[str, Meta(description="The field, from the trade, or from the message's root if it begins with $.")]
    type: JsonType = "text"
    pattern: Annotated[
        str | None, Meta(description="A regular expression for the whole text; its one group is the name.")
    ] = None
    optional: Annotated[
        bool, Meta(description="For the trade id: whether it may be absent or null; a number's text then replaces it.")
    ] = False


class IdPart(Strict, frozen=True):
    """A part of a trade id: a field, or the day of the trade, for a venue that begins its ids again each day."""

    path: Annotated[str | None, Meta(description="The field; a part that has none is a day.")] = None
    type: Annotated[JsonType, Meta(description="How the venue writes the field.")] = "text"
    pattern: Annotated[
        str | None, Meta(description="A regular expression for the whole text; its one group is the part.")
    ] = None
    optional: Annotated[bool, Meta(description="Whether the field may be absent or null; the part is then empty.")] = (
        False
    )
    day: Annotated[
        str | None, Meta(description="The time zone, as America/New_York, whose date of the venue's time is the part.")
    ] = None


class NumberField(Strict, frozen=True):
    """The field of a sequence number, or of a count of them: a whole number of 64 bits."""

    path: str
    type: JsonType = "any"
    pattern: Annotated[
        str | None, Meta(description="A regular expression for the whole text; its one group is the number.")
    ] = None
    optional: Annotated[
        bool, Meta(description="For a range: whether it may be absent; the trade then stands for one number.")
    ] = False


class DecimalField(Strict, frozen=True):
    """The field of a price or quantity, read digit by digit."""

    path: str
    type: JsonType = "any"
    absolute: Annotated[bool, Meta(description="Whether a sign, which is the side, is left out.")] = False
    scale: Annotated[
        int, Meta(description="The power of ten of its unit: -4 if 12345 means 1.2345.", ge=-18, le=18)
    ] = 0


class TimeField(Strict, frozen=True):
    """The field of the venue's time."""

    path: str
    unit: Annotated[
        Literal["s", "ms", "us", "ns", "ms_or_us", "rfc3339"],
        Meta(description="The unit of a number since 1970 in UTC; ms_or_us decides by the number of digits."),
    ]
    type: JsonType = "any"
    fraction: Annotated[bool, Meta(description="Whether the number may have a fraction.")] = False
    zone: Annotated[
        Annotated[str, Meta(pattern="^(Z|[+-][0-9]{2}:[0-9]{2})$")] | None,
        Meta(description="The zone of rfc3339 times that name none: Z or an offset."),
    ] = None


class SideField(Strict, frozen=True):
    """The field of the side: by its values, or by the sign of a number."""

    path: str
    buy: Annotated[list[Value], Meta(description="The values that mean a purchase.")] = []
    sell: Annotated[list[Value], Meta(description="The values that mean a sale.")] = []
    none: Annotated[list[Value], Meta(description="The values that mean that there is no side.")] = []
    by_sign: Annotated[bool, Meta(description="Whether a negative number means a sale, and any other a purchase.")] = (
        False
    )
    of: Annotated[Literal["taker", "maker"], Meta(description="Whose side it is; the maker's is inverted.")] = "taker"
    optional: Annotated[bool, Meta(description="Whether a trade may lack it; such a trade has no side.")] = False


class RowKinds(Strict, frozen=True):
    """Which trades are market trades, by the value of a field; an unknown value makes the message unsupported."""

    path: str
    market: Annotated[list[Value], Meta(description="The values of market trades.")]
    non_market: Annotated[
        list[Value], Meta(description="The values of trades that use a sequence number, but are not of the market.")
    ] = []
    skipped: Annotated[list[Value], Meta(description="The values of entries that are left out.")] = []
    absent: Annotated[
        Literal["market"] | None, Meta(description="What a trade without the field is; by default an error.")
    ] = None


class ConnectionField(Strict, frozen=True):
    """A field of every message, from the message's root."""

    path: Annotated[
        str, Meta(description="The field, from the message's root ($); [-1] is the last element of an array.")
    ]


class ConnectionNumbers(Strict, frozen=True):
    """The numbers of a connection's messages, for a topic that has all of them: a missing one is a lost message."""

    number: Annotated[ConnectionField, Meta(description="The number of the message; one without it is allowed.")]
    id: Annotated[
        ConnectionField | None,
        Meta(description="The id of the connection; without it, each partition has one connection at a time."),
    ] = None


class CorrectionRule(Strict, frozen=True):
    """Entries that have the place of a trade in a message, and cancel or correct an earlier one."""

    when: Annotated[
        list[Condition],
        Meta(
            description="All of these must hold; their paths begin at the entry, or at the message with $.",
            min_length=1,
        ),
    ]
    action: Annotated[Literal["cancel", "correct"], Meta(description="What it does to the trade that it means.")]
    trade_id: Annotated[NameField | list[IdPart], Meta(description="The id of the trade that it means.")]
    new_trade_id: Annotated[NameField | list[IdPart] | None, Meta(description="The id of the corrected trade.")] = None
    old_price: Annotated[DecimalField | None, Meta(description="The price of the trade before.")] = None
    old_quantity: Annotated[DecimalField | None, Meta(description="The quantity of the trade before.")] = None
    new_price: Annotated[DecimalField | None, Meta(description="Required for a correction.")] = None
    new_quantity: Annotated[DecimalField | None, Meta(description="Required for a correction.")] = None
    old_conditions: Annotated[str | None, Meta(description="The field of the sale conditions of the trade.")] = None
    new_conditions: Annotated[str | None, Meta(description="The field of the corrected sale conditions.")] = None
    symbol: Annotated[NameField | None, Meta(description="By default that of a trade.")] = None
    time: Annotated[TimeField | None, Meta(description="By default that of a trade.")] = None


class VenueTable(Strict, frozen=True):
    """A venue's messages."""

    name: Annotated[str, Meta(description="The venue's name in K2_TOPICS.", pattern="^[a-z0-9][a-z0-9-]{0,63}$")]
    source: Annotated[str, Meta(description="Address of the documentation.", min_length=1)]
    exchange: Annotated[str | NameField, Meta(description="The exchange of all trades, or the field that names it.")]
    numbering: Annotated[
        Literal["contiguous", "range", "monotonic", "identity_only", "none"],
        Meta(
            description="What a missing number means. range: a missing trade, and a trade stands for several numbers; "
            "none: the trades have neither number nor id."
        ),
    ]
    messages: Annotated[list[MessageForm], Meta(description="The forms of messages with trades.", min_length=1)]
    symbol: NameField
    price: DecimalField
    quantity: DecimalField
    time: TimeField
    side: SideField | None = None
    sequence: Annotated[NumberField | None, Meta(description="The sequence number; of a range, the last one.")] = None
    first_sequence: Annotated[NumberField | None, Meta(description="The first number of a range.")] = None
    count: Annotated[
        NumberField | None, Meta(description="How many numbers a range has, if its first is not named.")
    ] = None
    trade_id: Annotated[
        NameField | list[IdPart] | None,
        Meta(description="By default the decimal form of the sequence number; a list is joined by colons."),
    ] = None
    key: Annotated[NameField | None, Meta(description="The symbol of the Kafka key, if it is not that of symbol.")] = (
        None
    )
    kinds: list[RowKinds] = []
    corrections: Annotated[
        list[CorrectionRule], Meta(description="Which entries are corrections; they are tried before kinds.")
    ] = []
    skip: list[Skip] = []
    heads: Annotated[
        list[HeadForm], Meta(description="Messages that name the last number of their symbol, which are no trades.")
    ] = []
    view_of: Annotated[
        str | None,
        Meta(description="The venue of whose trades these are a second view; they are stored unless both are read."),
    ] = None
    envelope: Envelope | None = None
    connection: Annotated[
        ConnectionNumbers | None,
        Meta(description="The numbers of a connection's messages, if the topic has every message of the connection."),
    ] = None
    payload: Annotated[
        Literal["json", "gzip", "avro", "protobuf"],
        Meta(
            description="The format of a message's bytes. gzip reads JSON that is not compressed as well; avro and "
            "protobuf are in the wire format of a schema registry."
        ),
    ] = "json"
    extends: Annotated[str | None, Meta(description="A venue whose table this one changes, key by key.")] = None
    known: Annotated[
        list[str] | None,
        Meta(description="Keys that exist and are not used; if given, any other key of a message counts as drift."),
    ] = None
    valid_from: Annotated[
        date | None, Meta(description="The first day, in UTC, of the trades whose messages have this form.")
    ] = None
    before: Annotated[
        str | None, Meta(description="The venue whose table was valid until then, for messages of earlier trades.")
    ] = None
    fill: Annotated[
        Fill | None, Meta(description="For how long missing trades can be had from the venue; empty if unknown.")
    ] = None
    replaces: Annotated[bool, Meta(description="Whether this table replaces the built-in one of its name.")] = False


TABLE_KEYS: Final = frozenset(VenueTable.__struct_fields__)


def table_schema() -> dict[str, Any]:
    """Return the JSON schema of a table."""
    return msgspec.json.schema(VenueTable)

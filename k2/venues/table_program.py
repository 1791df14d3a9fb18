"""A table's program: its paths, fields and rules as the words that the kernel of all tables reads."""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from k2.model.trade import NO_SIDE
from k2.venues import scan
from k2.venues.skipped import reason_number
from k2.venues.table import (
    Condition,
    DecimalField,
    HeadForm,
    IdPart,
    MessageForm,
    NameField,
    NumberField,
    RowKinds,
    SideField,
    TimeField,
    Value,
    VenueTable,
)
from k2.venues.table_fields import UNITS, sides_of
from k2.venues.table_layout import (
    ABSENT_OR_NULL,
    AFFIXES,
    BY_MS_OR_US,
    BY_NANOSECONDS,
    BY_NUMBER,
    BY_RFC_3339,
    BY_SIGN,
    FIELD_WORDS,
    HEADER_WORDS,
    LEFT_OUT,
    MARKET,
    NON_MARKET,
    ONE_OF,
    PRESENT,
    SPEC_WORDS,
)
from k2.venues.table_paths import parse_path
from k2.venues.table_rules import takes_arrays
from k2.venues.table_states import EACH, Steps, UnfitTableError, Words, put_states

__all__ = ["program_of"]

Field = NameField | NumberField | DecimalField | TimeField | SideField | RowKinds

_STRING, _INTEGER, _NUMBER = 1 << int(scan.STRING), 1 << int(scan.INTEGER), 1 << int(scan.NUMBER)
_AFFIXES: Final = re.compile(r"((?:[\w /:@#=,-]|\\[./:-])*)(\(?)\.([*+])(\)?)((?:[\w /:@#=,-]|\\[./:-])*)")
"""A pattern with a text before and after one part of any characters."""
_ESCAPED: Final = re.compile(r"\\(.)")


class _Place(NamedTuple):
    """Where a field of a form is: a slot of the message, or of each element."""

    slot: int
    is_of_item: bool


def program_of(table: VenueTable) -> NDArray[np.uint64] | None:
    """Return the program of a table as uint64[words]; None if the table has what the kernel does not decode.

    That is a pattern other than one wildcard with a text before and after it, a list within an element of a list of
    trades with trades of its own, an optional field that may be within a value of another type, an id of several parts,
    or corrections.
    """
    try:
        return _Compiler(table).program()
    except UnfitTableError:
        return None


class _Compiler:
    """What is known of one table while its program is written."""

    def __init__(self, table: VenueTable) -> None:
        self._table = table
        self._words: Words = [0] * HEADER_WORDS
        self._slots: dict[Steps, int] = {}
        self._item_slots: dict[Steps, int] = {}
        self._groups: dict[Steps, int] = {}

    def program(self) -> NDArray[np.uint64]:
        """Return the words."""
        table, envelope = self._table, self._table.envelope
        if isinstance(table.trade_id, list) or table.corrections:
            raise UnfitTableError
        self._check_optional()
        own = 0 if envelope is None else self._slot(parse_path(envelope.unless).steps)
        wrapper = () if envelope is None else parse_path(envelope.path).steps
        wrapped = 0 if envelope is None else self._slot(wrapper)
        bare_forms = self._put_forms(())
        wrapped_forms = 0 if envelope is None else self._put_forms(wrapper)
        bare_skips = self._put_skips(())
        wrapped_skips = 0 if envelope is None else self._put_skips(wrapper)
        specs, kinds = self._put_specs()
        rules = specs, kinds, bare_skips, wrapped_skips, self._put_texts()
        dead, root = put_states(self._words, self._slots, self._item_slots, self._groups)
        # A slot 0 takes what no path names, and the number of an element's list.
        slots = len(self._slots) + 1, len(self._item_slots) + 1
        forms = int(takes_arrays(table)), bare_forms, wrapped_forms
        self._words[:HEADER_WORDS] = [0, 0, dead, root, *slots, own, wrapped, *forms, *rules]
        return np.array(self._words, dtype=np.uint64)

    def _check_optional(self) -> None:
        """Refuse optional fields that the kernel takes for absent in a value of another type, which is an error."""
        table = self._table
        optional = table.trade_id, table.side, table.first_sequence or table.count
        fields = [one.path for one in optional if one is not None and not isinstance(one, list) and one.optional]
        fields += [one.path for one in table.kinds if one.absent]
        # If a field that each trade must have is in the same value, then that is an object, or an array.
        required = [_container(table.time.path), _container(table.symbol.path)]
        if any(len(parse_path(path).steps) > 1 or _container(path) not in required for path in fields):
            raise UnfitTableError

    def _put(self, words: Sequence[int]) -> int:
        at = len(self._words)
        self._words += words
        return at

    def _slot(self, steps: Steps) -> int:
        return self._slots.setdefault(steps, len(self._slots) + 1)

    def _put_forms(self, wrapper: Steps) -> int:
        forms = [self._put_form(form, wrapper) for form in self._table.messages]
        heads = self._table.heads if isinstance(self._table.exchange, str) else []
        forms += [self._put_head(head, wrapper) for head in heads]
        return self._put([len(forms), *forms])

    def _put_form(self, form: MessageForm, wrapper: Steps) -> int:
        at = wrapper + parse_path(form.trades, takes_each=True).steps
        group = self._groups.setdefault(at, len(self._groups) + 1) if EACH in at else 0
        places = [self._place(path, at, wrapper, is_in_list=bool(group)) for path in self._paths()]
        when = self._put_conditions(form.when, wrapper)
        skips_at = self._put_skips_of(form.when, wrapper)
        fields = [word for place in places for word in (place.slot, int(place.is_of_item))]
        is_plain_list = at[1:] and at.index(EACH) == len(at) - 1 if group else False
        list_at = self._slot(at[:-1]) if is_plain_list else 0
        return self._put([when, skips_at, group, list_at, int(form.order == "newest_first"), 0, *fields])

    def _put_skips_of(self, when: Sequence[Condition], wrapper: Steps) -> int:
        """Write the rules of messages to skip that may hold where these conditions do."""
        rules = [rule for rule in self._table.skip if rule.when and not _exclude(when, rule.when)]
        return self._put_list(
            [(self._put_conditions(rule.when, wrapper), reason_number(rule.reason)) for rule in rules]
        )

    def _put_head(self, head: HeadForm, wrapper: Steps) -> int:
        """Write the form of messages that only name the last number of their symbol; it has none of the fields."""
        name = self._table.key or self._table.symbol
        slots = [self._slot(wrapper + parse_path(path).steps) for path in (head.number.path, name.path)]
        none = self._put_values([(text, 1) for value in head.none for text in (value, str(value))])
        record = [*self._number_spec(head.number), slots[0], *self._name_spec(name), slots[1], none]
        when, skips_at = self._put_conditions(head.when, wrapper), self._put_skips_of(head.when, wrapper)
        head_at = self._put(record)
        no_fields = [0] * (int(FIELD_WORDS) * sum(1 for _ in self._paths()))
        return self._put([when, skips_at, 0, 0, 0, head_at, *no_fields])

    def _put_skips(self, wrapper: Steps) -> int:
        """Write the rules of messages to skip, up to the first that the kernel cannot decide."""
        skips = list[tuple[int, int]]()
        for rule in self._table.skip:
            try:
                skips += [(self._put_conditions(rule.when, wrapper), reason_number(rule.reason))] if rule.when else []
            except UnfitTableError:
                break
        return self._put_list(skips)

    def _put_texts(self) -> int:
        texts = {text.encode(): reason_number(rule.reason) for rule in self._table.skip for text in rule.texts}
        return self._put_list([(reason, len(text), *text) for text, reason in texts.items()])

    def _put_list(self, records: Sequence[tuple[int, ...]]) -> int:
        return self._put([len(records), *(word for record in records for word in record)])

    def _paths(self) -> Iterator[str | None]:
        """Yield the paths of the fields in their order, None for one that the table does not have."""
        table = self._table
        names = table.exchange, table.symbol, table.price, table.quantity, table.time
        bound = table.first_sequence or table.count
        for field in (*names, table.side, table.sequence, bound, table.trade_id, *table.kinds):
            yield None if field is None or isinstance(field, str | list) else field.path

    def _place(self, text: str | None, at: Steps, wrapper: Steps, *, is_in_list: bool) -> _Place:
        if text is None:
            return _Place(0, is_of_item=False)
        path = parse_path(text)
        if path.is_root:
            return _Place(self._slot(wrapper + path.steps), is_of_item=False)
        if is_in_list:
            return _Place(self._item_slots.setdefault(path.steps, len(self._item_slots) + 1), is_of_item=True)
        return _Place(self._slot(at + path.steps), is_of_item=False)

    def _put_conditions(self, conditions: Sequence[Condition], wrapper: Steps) -> int:
        words = [len(conditions)]
        for condition in conditions:
            slot = self._slot(wrapper + parse_path(condition.path).steps)
            if condition.absent:
                words += [slot, int(ABSENT_OR_NULL), 0]
            elif condition.present:
                words += [slot, int(PRESENT), 0]
            elif condition.matches is not None:
                words += [slot, int(AFFIXES), self._put_affixes(condition.matches)]
            else:
                words += [slot, int(ONE_OF), self._put_values([(value, 1) for value in condition.one_of or ()])]
        return self._put(words)

    def _put_values(self, values: Sequence[tuple[Value, int]]) -> int:
        """Write values as they are in JSON, each with its result, which is not 0."""
        words = [len(values)]
        for value, result in values:
            kind, text = _json_of(value)
            words += [kind, result, len(text), *text]
        return self._put(words)

    def _put_affixes(self, pattern: str) -> int:
        """Write the texts before and after the wildcard of a pattern, and the least size of what it matches."""
        match = _AFFIXES.fullmatch(pattern)
        if match is None or len(match[2]) != len(match[4]):
            raise UnfitTableError
        before, after = (_ESCAPED.sub(r"\1", text).encode() for text in (match[1], match[5]))
        return self._put([int(match[3] == "+"), len(before), len(after), *before, *after])

    def _put_specs(self) -> tuple[int, int]:
        """Write what the table says of its fields; return the places of that, and of the list of kinds."""
        table = self._table
        exchange = None if isinstance(table.exchange, str) else table.exchange
        specs = [
            self._name_spec(exchange),
            self._name_spec(table.symbol),
            self._decimal_spec(table.price),
            self._decimal_spec(table.quantity),
            self._time_spec(table.time),
            self._side_spec(table.side),
            self._number_spec(table.sequence),
            [*self._number_spec(table.first_sequence or table.count), int(table.count is not None)],
            self._name_spec(table.trade_id),
        ]
        padded = [spec + [0] * (int(SPEC_WORDS) - len(spec)) for spec in specs]
        kinds = [(int(one.absent == "market"), self._put_values(_kinds_of(one))) for one in table.kinds]
        return self._put([word for spec in padded for word in spec]), self._put_list(kinds)

    def _name_spec(self, field: NameField | list[IdPart] | None) -> list[int]:
        if field is None or isinstance(field, list):
            return [0]
        pattern = 0 if field.pattern is None else self._put_affixes(field.pattern)
        return [_accepted(field) & ~_NUMBER, int(field.optional), pattern]

    def _number_spec(self, field: NumberField | None) -> list[int]:
        if field is None:
            return [0, 0, 0]
        return [_accepted(field), int(field.optional), 0 if field.pattern is None else self._put_affixes(field.pattern)]

    def _decimal_spec(self, field: DecimalField) -> list[int]:
        return [_accepted(field), 0, 0, int(field.absolute), field.scale % 2**64]

    def _time_spec(self, field: TimeField) -> list[int]:
        if field.zone is not None:
            # Rare, and not worth a rule of the kernel.
            raise UnfitTableError
        if field.unit == "rfc3339":
            return [_STRING, 0, 0, int(BY_RFC_3339)]
        accepts = _accepted(field) & ~(0 if field.fraction else _NUMBER)
        if field.unit == "ms_or_us":
            return [accepts, 0, 0, int(BY_MS_OR_US), int(field.fraction)]
        if field.unit == "ns":
            return [accepts, 0, 0, int(BY_NANOSECONDS), int(field.fraction)]
        return [accepts, 0, 0, int(BY_NUMBER), int(field.fraction), *UNITS[field.unit][1:]]

    def _side_spec(self, field: SideField | None) -> list[int]:
        if field is None:
            return [0]
        # Results are sides plus one.
        buy, sell = (side + 1 for side in sides_of(field))
        if field.by_sign:
            values = self._put([buy, sell])
            return [_STRING | _INTEGER | _NUMBER, int(field.optional), 0, int(BY_SIGN), values]
        sides = ((field.buy, buy), (field.sell, sell), (field.none, NO_SIDE + 1))
        listed = self._put_values([(value, side) for values, side in sides for value in values])
        return [0, int(field.optional), 0, 0, listed]


def _container(path: str) -> tuple[bool, type]:
    """Return (whether a path begins at the message, type of its first step)."""
    parsed = parse_path(path)
    return parsed.is_root, type(parsed.steps[0])


def _accepted(field: NameField | NumberField | DecimalField | TimeField) -> int:
    """Return the kinds of JSON values that a field may have, one bit each."""
    kinds = {"text": _STRING, "number": _INTEGER | _NUMBER, "any": _STRING | _INTEGER | _NUMBER}
    accepted = kinds[field.type]
    return accepted & ~_NUMBER if isinstance(field, NumberField) else accepted


def _kinds_of(kinds: RowKinds) -> list[tuple[Value, int]]:
    """Return the values that a table names, each with the kind of its trades."""
    listed = ((kinds.market, MARKET), (kinds.non_market, NON_MARKET), (kinds.skipped, LEFT_OUT))
    return [(value, int(kind)) for values, kind in listed for value in values]


def _json_of(value: Value) -> tuple[int, bytes]:
    """Return kind and bytes of a value in JSON; text is without quotes."""
    if isinstance(value, bool):
        return (int(scan.TRUE), b"true") if value else (int(scan.FALSE), b"false")
    return (int(scan.INTEGER if isinstance(value, int) else scan.STRING), str(value).encode())


def _exclude(conditions: Sequence[Condition], others: Sequence[Condition]) -> bool:
    """Return whether the two can surely not hold together, so that a message that fulfils one needs no second test."""
    return any(
        one.path.removeprefix("$.") == other.path.removeprefix("$.")
        and (_contradict(one, other) or _contradict(other, one))
        for one in conditions
        for other in others
    )


def _contradict(one: Condition, other: Condition) -> bool:
    if one.absent:
        return other.one_of is not None or other.matches is not None
    if one.one_of is None or other.one_of is None:
        return False
    return {_json_of(value) for value in one.one_of}.isdisjoint({_json_of(value) for value in other.one_of})

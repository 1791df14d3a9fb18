"""The reference decoder of a table: its fields and rules compiled to functions once, when the table is loaded."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from k2.model.correction import Correction
from k2.model.decimals import clipped
from k2.model.reasons import HEAD_NUMBER, Reason, RejectedError, SkippedError, invalid
from k2.model.trade import Trade
from k2.venues.connection_reader import connection_reader
from k2.venues.payloads import payload_of
from k2.venues.reading import read_json
from k2.venues.table import Condition, MessageForm, VenueTable
from k2.venues.table_conditions import all_of, condition_test, is_container, other_entry_test
from k2.venues.table_drift import DriftFinder, FormFit
from k2.venues.table_entries import RootRejectedError, entry_reader, head_reader, key_reader, names_trade
from k2.venues.table_fields import article
from k2.venues.table_kernel import compiled_decoder
from k2.venues.table_paths import ABSENT, finder, getter, items_getter, items_with_places, parse_path, place, type_name
from k2.venues.table_rules import takes_arrays
from k2.venues.venue import SequenceMode, Venue

__all__ = ["venue_of"]

MODES: Final = {
    "contiguous": SequenceMode.CONTIGUOUS,
    "range": SequenceMode.RANGE,
    "monotonic": SequenceMode.MONOTONIC,
    "identity_only": SequenceMode.IDENTITY_ONLY,
    "none": SequenceMode.IDENTITY_ONLY,
}


def venue_of(table: VenueTable) -> Venue:
    """Return the venue that a table describes; the table must be valid (see `k2.venues.table_rules`)."""
    decoder, payload = _Decoder(table), payload_of(table.payload)
    return Venue(
        table.name,
        MODES[table.numbering],
        decoder.decode if payload is None else lambda value: decoder.decode(payload.unpack(value)),
        compiled_decoder(table),
        decoder.key if payload is None else lambda value: decoder.key(payload.unpack(value)),
        exchange=table.exchange if isinstance(table.exchange, str) else None,
        drift=DriftFinder(
            table,
            decoder.fit if payload is None else lambda value: decoder.fit(payload.unpack(value)),
            other_entry_test(table),
        ),
        payload=payload,
        time_field=_time_field(table),
        counts_numbers=table.count is not None,
        view_of=table.view_of,
        connection=connection_reader(table),
        has_corrections=bool(table.corrections),
    )


def _time_field(table: VenueTable) -> str:
    """Return the path of the time for errors, with `{index}` if the index of a trade is that of one list."""
    path = parse_path(table.time.path)
    at = parse_path(table.messages[0].trades, takes_each=True).text
    if path.is_root or not at:
        return path.text
    is_plain = len(table.messages) == 1 and at.count("[]") == 1 and table.messages[0].order == "oldest_first"
    return place(at.replace("[]", "[{index}]") if is_plain and not _drops_entries(table) else at, path.text)


def _drops_entries(table: VenueTable) -> bool:
    return any(kinds.skipped for kinds in table.kinds)


class _Decoder:
    """The functions of one table."""

    def __init__(self, table: VenueTable) -> None:
        self._texts = {text.encode(): rule.reason for rule in table.skip for text in rule.texts}
        self._skips = [(all_of(rule.when), rule.reason) for rule in table.skip if rule.when]
        self._forms = [_Form(form, table.name) for form in table.messages]
        self._heads = [(all_of(rule.when), head_reader(rule, table)) for rule in table.heads]
        self._takes_arrays = takes_arrays(table)
        self._read_entry = entry_reader(table)
        self._key = key_reader(table)
        # If the names are in the message itself, also a message of another form has a key.
        self._needs_trade = names_trade(table) and any(form.path.steps for form in self._forms)
        self._unwrap = _unwrapper(table)

    def decode(self, value: bytes) -> Sequence[Trade | Correction]:
        """Decode one message to its trades and corrections; see `k2.venues.venue.ReferenceDecoder`."""
        root = self._root(value)
        form = self._form_of(root)
        if form is None:
            return [self._head_of(root)]
        if not form.path.steps:
            return [self._read_entry(root, root)]
        trades, why = list[Trade | Correction](), "no_trades"
        for idx, item in enumerate(form.items(root)):
            try:
                trades.append(self._read_entry(item, root))
            except SkippedError as skipped:
                why = skipped.why
            except RejectedError as error:
                raise form.placed(error, root, idx) from None
        if not trades:
            raise SkippedError(why)
        if form.is_newest_first:
            trades.reverse()
        return trades

    def key(self, value: bytes) -> str:
        """Return the Kafka key of a message; see `k2.venues.venue.KeyReader`."""
        root = self._root(value)
        if not self._needs_trade:
            return self._key(root, root)
        form = self._form_of(root)
        if form is None:
            return self._key(root, root)
        items = form.items(root)
        if not items:
            raise SkippedError("no_trades")
        try:
            return self._key(items[0], root)
        except RejectedError as error:
            raise form.placed(error, root, 0) from None

    def fit(self, value: bytes) -> FormFit:
        """Return the form of a message, or the nearest one and what it lacks; raise as `decode` if it is skipped."""
        root = self._root(value)
        fits = [FormFit(root, idx, form.unfulfilled(root)) for idx, form in enumerate(self._forms)]
        if all(one.unfulfilled is not None for one in fits) and self._is_head(root):
            raise SkippedError(HEAD_NUMBER)
        nearest = max(fits, key=lambda one: self._forms[one.form_idx].count_fulfilled(root))
        return next((one for one in fits if one.unfulfilled is None), nearest)

    def _root(self, value: bytes) -> Any:
        """Return the message without its wrapper; raise if it is not JSON of the right kind, or is skipped."""
        if value in self._texts:
            raise SkippedError(self._texts[value])
        root = self._unwrap(read_json(value))
        if type(root) is not dict and not (self._takes_arrays and type(root) is list):
            expected = "object or array" if self._takes_arrays else "object"
            raise RejectedError(Reason.MALFORMED, f"value: expected {expected}, got {type_name(root)}")
        for is_skipped, reason in self._skips:
            if is_skipped(root):
                raise SkippedError(reason)
        return root

    def _form_of(self, root: Any) -> "_Form | None":
        """Return the form of a message; None for one that only names the last number."""
        for form in self._forms:
            if form.fits(root):
                return form
        if self._is_head(root):
            return None
        # The form of which most conditions hold says best what is wrong.
        nearest = max(self._forms, key=lambda form: form.count_fulfilled(root))
        nearest.refuse(root)
        raise AssertionError("a form that does not fit refuses the message")

    def _is_head(self, root: Any) -> bool:
        return any(fits(root) for fits, _ in self._heads)

    def _head_of(self, root: Any) -> Trade:
        return next(read(root) for fits, read in self._heads if fits(root))


class _Form:
    """One form of messages with trades."""

    def __init__(self, form: MessageForm, venue: str) -> None:
        self.path = parse_path(form.trades, takes_each=True)
        self.items = items_getter(self.path)
        self.is_newest_first = form.order == "newest_first"
        self._venue = venue
        self._conditions = [(condition, condition_test(condition)) for condition in form.when]
        self.fits = all_of(form.when)

    def placed(self, error: RejectedError, root: Any, idx: int) -> RejectedError:
        """Return the rejection of a trade with the place of the trade before the path of its field."""
        if isinstance(error, RootRejectedError):
            return error
        at = items_with_places(self.path, root)[idx][1]
        if at and error.error.startswith("value:"):
            # The trade itself is wrong, not one of its fields.
            return RejectedError(error.reason, at + error.error.removeprefix("value"))
        return RejectedError(error.reason, place(at, error.error))

    def count_fulfilled(self, root: Any) -> int:
        """Return the number of conditions that hold, up to the first that does not."""
        for count, (_, test) in enumerate(self._conditions):
            if not test(root):
                return count
        return len(self._conditions)

    def unfulfilled(self, root: Any) -> Condition | None:
        """Return the first condition that does not hold, or None."""
        return next((condition for condition, test in self._conditions if not test(root)), None)

    def refuse(self, root: Any) -> None:
        """Raise the rejection by the first condition that does not hold: a field is missing, or has another value."""
        for condition, test in self._conditions:
            if not test(root):
                path = parse_path(condition.path)
                value = getter(path)(root)
                self._check_type(condition, path.text, value)
                error = f"{path.text}: {_shown(value)} is not read from {article(self._venue)} {self._venue} topic"
                raise RejectedError(Reason.UNSUPPORTED, error)

    @staticmethod
    def _check_type(condition: Condition, at: str, value: object) -> None:
        """Raise if the value is not of a type that is read."""
        known: Sequence[object] = condition.one_of or [condition.matches or value]
        types = {type(one) for one in known}
        if type(value) not in types:
            invalid(at, f"expected {' or '.join(sorted(one.__name__ for one in types))}, got {type_name(value)}")


def _unwrapper(table: VenueTable) -> Callable[[Any], Any]:
    if table.envelope is None:
        return lambda root: root
    inner, own = finder(parse_path(table.envelope.path)), finder(parse_path(table.envelope.unless))

    def unwrap(root: Any) -> Any:
        if own(root) is not ABSENT:
            return root
        message = inner(root)
        return root if message is ABSENT else message

    return unwrap


def _shown(value: object) -> str:
    return clipped(value) if not is_container(value) else type_name(value)

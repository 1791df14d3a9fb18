"""Messages that a table skips, made from its rules."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from k2.venues.table import Condition, Skip, VenueTable
from k2.venues.table_paths import parse_path

__all__ = ["skipped_messages", "skipped_texts"]

_WILDCARD: Final = re.compile(r"\.[+*]")


def skipped_messages(table: VenueTable) -> list[bytes]:
    """Return a message for each value of each rule of a table."""
    return [json.dumps(message).encode() for rule in table.skip if rule.when for message in _messages_of(rule)]


def skipped_texts(table: VenueTable) -> list[bytes]:
    """Return the whole messages that a table skips, and others that nearly are."""
    texts = [text.encode() for rule in table.skip for text in rule.texts]
    return [one for text in texts for one in (text, b" " + text, text[:-1], text + b" ", b'"' + text + b'"')]


def _messages_of(rule: Skip) -> Iterator[Any]:
    for choice in range(max(len(condition.one_of or [0]) for condition in rule.when)):
        message: Any = None
        for condition in rule.when:
            if not condition.absent:
                message = _with(message, parse_path(condition.path).steps, _value_of(condition, choice))
        yield {} if message is None else message


def _value_of(condition: Condition, choice: int) -> object:
    if condition.one_of is not None:
        return condition.one_of[choice % len(condition.one_of)]
    return 1 if condition.matches is None else _WILDCARD.sub("x", condition.matches).replace("\\", "")


def _with(container: Any, steps: tuple[str | int, ...], value: object) -> Any:
    """Return a container, or a new one, with a value at a path."""
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        return {**(container or {}), step: _with((container or {}).get(step), rest, value)}
    elements = [*(container or []), *([0] * (step + 1))][: max(len(container or []), step + 1)]
    elements[step] = _with(elements[step] or None, rest, value)
    return elements

"""Paths of fields in JSON messages, compiled to functions: `px`, `arg.instId`, `[2]`, and `$.ch` from the root."""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from k2.model.reasons import RejectedError, invalid

__all__ = [
    "ABSENT",
    "Path",
    "finder",
    "getter",
    "items_getter",
    "items_with_places",
    "optional_getter",
    "parse_path",
    "place",
    "type_name",
]

ABSENT: Final = object()
"""Stands for a field that a message does not have."""

Finder = Callable[[Any], Any]
"""Returns the value of a field, or `ABSENT`."""
Getter = Callable[[Any], Any]
"""Returns the value of a field; raises `RejectedError` if it is missing, or if what contains it has another type."""

_STEP: Final = re.compile(r"\.?([A-Za-z0-9_-]+)|\[(\d{1,3})\]|(\[\])")
_EACH: Final = "[]"
_TYPES: Final = {type(None): "null", bool: "bool", int: "int", str: "str", list: "array", dict: "object"}


class Path(NamedTuple):
    """A path of a table."""

    is_root: bool
    """Whether it begins at the message's root (`$`); else it begins at the trade."""
    steps: tuple[str | int, ...]
    """Keys of objects and indexes of arrays; `[]` stands for each element of an array."""

    @property
    def text(self) -> str:
        """The path as error messages have it, without `$`."""
        return _text_of(self.steps)


def parse_path(text: str, *, takes_each: bool = False) -> Path:
    """Parse a path; `[]` is allowed only if `takes_each`.

    Raises:
        ValueError: the text is not a path.

    >>> parse_path("$.arg.instId"), parse_path("[2][0]").steps, parse_path("events[].trades[]", takes_each=True).text
    (Path(is_root=True, steps=('arg', 'instId')), (2, 0), 'events[].trades[]')
    """
    rest, steps, at = text.removeprefix("$"), list[str | int](), 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None or (at == 0 and rest[0] == "." and not text.startswith("$")):
            raise ValueError(f"not a path: {text!r}; use names, [0] for an element of an array, and $ for the message")
        name, number, each = match.groups()
        if each and not takes_each:
            raise ValueError(f"[] in {text!r}: only the path of trades may have it; name one element, as in [0]")
        steps.append(each or name or int(number))
        at = match.end()
    if not steps and not takes_each:
        raise ValueError("an empty path; name a field")
    return Path(text.startswith("$"), tuple(steps))


def type_name(value: object) -> str:
    """Return the name of a JSON value's type, for messages."""
    return _TYPES.get(type(value), "float")


def place(prefix: str, path: str) -> str:
    """Join two paths of a message.

    >>> place("data[0]", "px"), place("[1][2]", "[0]"), place("", "px")
    ('data[0].px', '[1][2][0]', 'px')
    """
    return f"{prefix}{'.' if prefix and not path.startswith('[') else ''}{path}"


def finder(path: Path) -> Finder:
    """Return the function that finds a field which may be absent; anything on the way that is no container counts."""
    if len(path.steps) == 1 and isinstance(path.steps[0], str):
        key = path.steps[0]

        def find_key(container: Any) -> Any:
            return container.get(key, ABSENT) if type(container) is dict else ABSENT

        return find_key

    def find(container: Any) -> Any:
        for step in path.steps:
            container = _child(container, step)
        return container

    return find


def getter(path: Path) -> Getter:
    """Return the function that gets a required field."""
    if len(path.steps) > 1:

        def get(container: Any) -> Any:
            for idx in range(len(path.steps)):
                container = _step(container, path.steps, idx)
            return container

        return get
    steps = path.steps
    step: Any = steps[0]
    wanted: Any = dict if isinstance(step, str) else list

    def get_step(container: Any) -> Any:
        # The usual case, without a call.
        if type(container) is wanted:
            try:
                return container[step]
            except (KeyError, IndexError):
                pass
        return _step(container, steps, 0)

    return get_step


def optional_getter(path: Path) -> Finder:
    """Return the function that gets a field which may be missing, or whose containers may be missing or null.

    It raises `RejectedError` if a container has another type: that is no absence, but a message in another form.
    """

    def get(container: Any) -> Any:
        for idx, step in enumerate(path.steps):
            if container is None and idx:
                return ABSENT
            if _child(container, step) is ABSENT and type(container) is (dict if isinstance(step, str) else list):
                return ABSENT
            container = _step(container, path.steps, idx)
        return container

    return get


def items_getter(path: Path) -> Callable[[Any], list[Any]]:
    """Return the function that gets the elements of a path with `[]`, in their order.

    It raises `RejectedError` if a part of the path is missing or has another type.
    """
    if path.steps.count(_EACH) == 1 and path.steps[-1] == _EACH and len(path.steps) > 1:
        get = getter(Path(path.is_root, path.steps[:-1]))
        at = _text_of(path.steps[:-1])

        def get_list(root: Any) -> list[Any]:
            found = get(root)
            if type(found) is not list:
                invalid(at, f"expected array, got {type_name(found)}")
            return found

        return get_list
    return lambda root: [item for item, _ in items_with_places(path, root)]


def items_with_places(path: Path, root: Any) -> list[tuple[Any, str]]:
    """Return the elements of a path with `[]`, each with its place in the message."""
    found = [(root, "")]
    for step in path.steps:
        found = [one for container, at in found for one in _expand(container, step, at)]
    return found


def _expand(container: Any, step: str | int, at: str) -> list[tuple[Any, str]]:
    if step == _EACH:
        if type(container) is not list:
            invalid(at or "value", f"expected array, got {type_name(container)}")
        return [(one, f"{at}[{idx}]") for idx, one in enumerate(container)]
    try:
        return [(_step(container, (step,), 0), place(at, _text_of((step,))))]
    except RejectedError as error:
        raise RejectedError(error.reason, place(at, error.error)) from None


def _step(container: Any, steps: tuple[str | int, ...], idx: int) -> Any:
    step = steps[idx]
    wanted, expected = (dict, "object") if isinstance(step, str) else (list, "array")
    if type(container) is not wanted:
        invalid(_text_of(steps[:idx]) or "value", f"expected {expected}, got {type_name(container)}")
    found = _child(container, step)
    if found is ABSENT:
        invalid(_text_of(steps[: idx + 1]), "missing")
    return found


def _child(container: Any, step: str | int) -> Any:
    """Return a value of an object or array, or `ABSENT`."""
    if isinstance(step, str):
        return container.get(step, ABSENT) if type(container) is dict else ABSENT
    return container[step] if type(container) is list and step < len(container) else ABSENT


def _text_of(steps: tuple[str | int, ...]) -> str:
    text = "".join(
        str(step) if step == _EACH else f".{step}" if isinstance(step, str) else f"[{step}]" for step in steps
    )
    return text.removeprefix(".")

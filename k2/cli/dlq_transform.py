"""A user's function that fixes the values of dead letters before they are replayed."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Final

from k2.model.dead_letter import DeadLetter
from k2.model.errors import K2Error, SettingsError

__all__ = ["Transform", "TransformError", "load_transform"]

NAME: Final = "transform"
Transform = Callable[[DeadLetter], bytes | None]
"""Returns the value to publish in place of the letter's; None to leave the letter waiting."""


class TransformError(K2Error, ValueError):
    """The function raised an error for a letter, or returned something else than a value."""


def load_transform(path: Path) -> Transform:
    """Run a Python file and return its function `transform(letter)`, checked.

    The function may return bytes, a str, which is published as UTF-8, or None.

    Raises:
        SettingsError: the file cannot be run, or has no such function.
    """
    try:
        found = runpy.run_path(str(path)).get(NAME)
    except Exception as error:
        raise SettingsError(
            f"--transform {path}: the file cannot be run: {type(error).__name__}: {error}; fix it, or its path"
        ) from error
    if not callable(found):
        raise SettingsError(f"--transform {path}: there is no function {NAME}(letter) in it; add it")

    def transform(letter: DeadLetter) -> bytes | None:
        try:
            value = found(letter)
            return value.encode() if isinstance(value, str) else _checked(value)
        except Exception as error:
            place = f"{letter.topic}:{letter.partition}:{letter.offset}"
            raise TransformError(
                f"dead letter {place} stays waiting: {NAME} of {path}: {type(error).__name__}: {error}"
            ) from error

    return transform


def _checked(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    raise TypeError(f"it returned a value of type {type(value).__name__}; return bytes, a str, or None")

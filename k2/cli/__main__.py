"""Where the `k2` command begins: Ctrl-C and the standard streams are seen to before anything slow is imported."""

import errno
import os
import sys
from io import TextIOWrapper
from typing import Final

from k2.cli.interrupt import INTERRUPT

__all__ = ["main"]

_UNWRITABLE: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def main() -> None:
    """Run `k2`; where a file or the result cannot be written, say so in a sentence and end with 1."""
    INTERRUPT.watch()
    _prepare_streams()
    from k2.cli.main import app  # noqa: PLC0415  it takes a while

    try:
        app(prog_name="k2")
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        # What is buffered would be written at the end of the process, and fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"k2: {sentence}")
    finally:
        INTERRUPT.end()


def _prepare_streams() -> None:
    """Put the null device where the caller closed a stream, so that no file of ours takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  open to the end
    if isinstance(sys.stdout, TextIOWrapper):
        # A character that the terminal does not know, or a file name that is no text, is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")


def _sentence(error: Exception) -> str | None:
    """Say what the system refused; None for an error that is a bug's."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"the result cannot be written: {error.strerror}" if error.errno in _UNWRITABLE else error.strerror


if __name__ == "__main__":
    main()

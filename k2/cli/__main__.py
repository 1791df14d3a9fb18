"""Entry point of the `k2` command: handles Ctrl-C and the standard streams before any slow import."""

import errno
import os
import sys
from io import TextIOWrapper
from typing import Final

from k2.cli.interrupt import INTERRUPT
from k2.ops.import_trims import trim_imports

__all__ = ["main"]

_UNWRITABLE: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})


def main() -> None:
    """Run `k2`. If a file or the result cannot be written, print one sentence and exit with code 1."""
    INTERRUPT.watch()
    _prepare_streams()
    trim_imports()
    from k2.cli.main import app  # noqa: PLC0415  a slow import

    try:
        app(prog_name="k2")
    except Exception as error:
        message = _system_error_message(error)
        if message is None:
            raise
        # Python flushes its buffers at exit, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(f"k2: {message}")
    finally:
        INTERRUPT.end()


def _prepare_streams() -> None:
    """Replace closed standard streams by the null device, so that no other file gets their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  stays open until exit
    if isinstance(sys.stdout, TextIOWrapper):
        # Escape characters that the terminal cannot encode, and file names that are not valid UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")


def _system_error_message(error: Exception) -> str | None:
    """Return what the operating system refused, or None if the error is a bug."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"the result cannot be written: {error.strerror}" if error.errno in _UNWRITABLE else error.strerror


if __name__ == "__main__":
    main()

"""Read files in Databento's binary encoding (DBN) as JSON lines, the form that the `databento` venues read."""

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from k2.model.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["DBN_MAGIC", "DamagedDbnError", "read_dbn"]

DBN_MAGIC: Final = b"DBN"
PIECE_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 1024 * 1024
PACKAGE: Final = "databento_dbn"


class DamagedDbnError(Exception):
    """A file that is not whole, or not in the encoding."""


def read_dbn(dbn: io.BufferedReader, name: str) -> io.BufferedReader:
    """Return the records of a DBN file as JSON lines; `name` is that of the file, for an error.

    Prices and times are whole numbers, and each record has the symbol that the file maps to its instrument.

    Raises:
        SettingsError: the extra `dbn` is not installed.
        DamagedDbnError: while it is read: the file is not whole.
    """
    return io.BufferedReader(_DbnReader(dbn, name), BUFFER_BYTES)


class _DbnReader(io.RawIOBase):
    def __init__(self, dbn: io.BufferedReader, name: str) -> None:
        if find_spec(PACKAGE) is None:
            raise SettingsError(
                f"{name} is a DBN file, which needs the extra 'dbn'; run `pip install 'k2-trades[dbn]'`"
            )
        from databento_dbn import Compression, Encoding, Transcoder  # noqa: PLC0415  an extra

        self._dbn = dbn
        self._lines = io.BytesIO()
        self._transcoder = Transcoder(
            self._lines, Encoding("json"), Compression("none"), pretty_px=False, pretty_ts=False, map_symbols=True
        )
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        target = memoryview(buffer)
        while not self._ready and (piece := self._dbn.read1(PIECE_BYTES)):
            self._ready = self._transcoded(piece)
        if not self._ready and self._transcoder.buffer():
            raise DamagedDbnError("it ends within a record")
        chunk, self._ready = self._ready[: len(target)], self._ready[len(target) :]
        target[: len(chunk)] = chunk
        return len(chunk)

    def _transcoded(self, piece: bytes) -> bytes:
        from databento_dbn import DBNError  # noqa: PLC0415  an extra

        try:
            self._transcoder.write(piece)
            self._transcoder.flush()
        except DBNError as error:
            raise DamagedDbnError(str(error)) from error
        lines = self._lines.getvalue()
        self._lines.seek(0)
        self._lines.truncate()
        return lines

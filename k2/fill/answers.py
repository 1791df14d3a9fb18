"""Answers of venues that are kept: a request whose answer is there is not sent again."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from k2.model.errors import SettingsError
from k2.ops.failpoints import failpoint
from k2.ops.settings import Settings

__all__ = ["KeptAnswers"]

INDEX: Final = "requests.jsonl"


class _Line(msgspec.Struct, frozen=True):
    """The answer to a request; the file is named by its hash."""

    url: str
    sha256: str
    fetched_at: datetime


class KeptAnswers:
    """The folder `fetched` in `K2_DATA_DIR`: a file for each answer, named by its SHA-256, and an index of requests.

    A crash leaves at most a file that no request names; its request is sent again.

    Raises:
        SettingsError: the folder cannot be read or written.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.data_dir / "fetched"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            index = self._folder / INDEX
            lines = index.read_bytes().splitlines() if index.exists() else []
        except OSError as error:
            raise SettingsError(f"{self._folder} cannot be used: {error.strerror}; grant access") from None
        self._hashes = {line.url: line.sha256 for line in map(_parsed, lines) if line}

    def find(self, url: str) -> bytes | None:
        """Return the answer to a request; None if there is none, or its file is damaged."""
        kept = self._hashes.get(url)
        path = self._folder / (kept or INDEX)
        if kept is None or not path.is_file():
            return None
        data = path.read_bytes()
        return data if hashlib.sha256(data).hexdigest() == kept else None

    def keep(self, url: str, data: bytes) -> None:
        """Keep the answer to a request, durable before it is named."""
        digest = hashlib.sha256(data).hexdigest()
        temporary = self._folder / f"{digest}.part"
        try:
            _write(temporary, data, "wb")
            temporary.replace(self._folder / digest)
            failpoint("fill.answered")
            line = msgspec.json.encode(_Line(url, digest, datetime.now(UTC)))
            # A torn line of an earlier crash ends here.
            _write(self._folder / INDEX, b"\n" + line + b"\n", "ab")
        except OSError as error:
            raise SettingsError(f"{self._folder} cannot be written: {error.strerror}; make room there") from None
        self._hashes[url] = digest


def _write(path: Path, data: bytes, mode: str) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _parsed(line: bytes) -> _Line | None:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return None

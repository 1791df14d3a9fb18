"""A folder of dead letters on a local disk."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from k2.storage.dead_letters.files import DeadLetterFile, parse_name
from k2.storage.files import sync

__all__ = ["LocalFolder"]


@dataclass(frozen=True)
class LocalFolder:
    """A folder of dead letters on a local disk; it need not exist. Its errors are those of the operating system."""

    path: Path

    def files(self) -> list[DeadLetterFile]:
        """Return its dead-letter files, oldest first; an empty list if there is no folder."""
        if not self.path.is_dir():
            return []
        named = (parse_name(path.name, path.stat().st_size) for path in self.path.glob("dlq-*.jsonl"))
        return sorted(file for file in named if file is not None)

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it."""
        return (self.path / name).open("rb")

    def location(self, name: str) -> str:
        """Return the path of a file."""
        return str(self.path / name)

    def names(self, prefix: str) -> list[str]:
        """Return the names of all files that start with `prefix`, sorted; an empty list if there is no folder."""
        if not self.path.is_dir():
            return []
        return sorted(path.name for path in self.path.iterdir() if path.name.startswith(prefix))

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file; it is durable when this returns, and after a crash it is whole or not there."""
        unfinished = self.path / f".{name}"
        with unfinished.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(self.path / name)
        sync(self.path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

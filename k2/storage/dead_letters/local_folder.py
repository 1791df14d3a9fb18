"""A folder of dead letters on a local disk."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from k2.storage.dead_letters.files import DeadLetterFile, parse_name

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

"""The folder of certificates: one file a revision, by exchange, symbol and day; none is ever overwritten."""

import re
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from k2.certificates.certificate import Document, document_text, parse_document
from k2.model.errors import SettingsError

__all__ = ["CertificateFolder", "StoredCertificate", "leaves_path", "page_path"]

_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.(\d+))?\.json")
_NAME_BYTES_MAX: Final = 200
"""A file system's limit is 255."""


class StoredCertificate(NamedTuple):
    """A certificate's file; the newest revision of the newest day is the greatest."""

    day: date
    revision: int
    path: Path

    def read(self) -> Document:
        """Return its document.

        Raises:
            CertificateError: it cannot be read.
        """
        return parse_document(self.path.read_bytes(), str(self.path))


class CertificateFolder:
    """Certificates in `EXCHANGE/SYMBOL/DAY.json`, later revisions in `DAY.2.json` and so on."""

    def __init__(self, root: Path) -> None:
        """Use a folder, which need not exist."""
        self._root = root

    def stored(self, exchange: str, symbol: str) -> list[StoredCertificate]:
        """Return the certificates of a symbol, the oldest day and its first revision first."""
        return sorted(_in(self._folder(exchange, symbol)))

    @staticmethod
    def in_tree(root: Path) -> "Iterator[StoredCertificate]":
        """Yield the certificates in a folder and the folders below it: of each symbol in order."""
        for folder in sorted({path.parent for path in root.rglob("*.json")}):
            yield from sorted(_in(folder))

    def write(self, document: Document, page: str) -> Path:
        """Write a certificate and its page; return the path of the certificate, which appears whole or not at all.

        Raises:
            SettingsError: a file cannot be written, or another process has written this revision.
        """
        folder = self._folder(document["exchange"], document["symbol"])
        revision = "" if document["revision"] == 1 else f".{document['revision']}"
        path = folder / f"{document['day']}{revision}.json"
        partial = path.with_suffix(".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            page_path(path).write_text(page, encoding="utf-8")
            partial.write_text(document_text(document), encoding="utf-8")
            # A link, unlike a rename, does not replace a file.
            path.hardlink_to(partial)
            partial.unlink()
        except OSError as error:
            raise SettingsError(f"--output {self._root}: {path} cannot be written: {error.strerror}") from error
        return path

    def _folder(self, exchange: str, symbol: str) -> Path:
        return self._root / _file_name(exchange) / _file_name(symbol)


def page_path(path: Path) -> Path:
    """Return the path of a certificate's page."""
    return path.with_suffix(".html")


def leaves_path(path: Path) -> Path:
    """Return the path of a certificate's leaf hashes, which exist if they were asked for."""
    return path.with_suffix(".leaves.parquet")


def _in(folder: Path) -> Iterator[StoredCertificate]:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            yield StoredCertificate(date.fromisoformat(match[1]), int(match[2] or 1), path)


def _file_name(name: str) -> str:
    """Return a name as that of a file: letters, digits, `_`, `-` and `~` as they are, the others as `%XX`.

    A long one is cut, and a hash of the whole is added.

    >>> _file_name("BTC/USD"), _file_name("..")
    ('BTC%2FUSD', '%2E%2E')
    """
    quoted = quote(name, safe="").replace(".", "%2E")
    if len(quoted) <= _NAME_BYTES_MAX:
        return quoted
    return f"{quoted[: _NAME_BYTES_MAX - 40]}%~{sha256(name.encode()).hexdigest()[:32]}"

"""The folder of certificates: one file a revision, by exchange, symbol and day; none is ever overwritten."""

import re
from collections.abc import Collection, Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Final, NamedTuple
from urllib.parse import quote

from k2.certificates.certificate import CertificateError, Document, document_text, parse_document
from k2.model.errors import SettingsError

__all__ = ["CertificateFolder", "StoredCertificate", "certificate_name", "leaves_path", "page_path"]

_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.([1-9]\d{0,8}))?\.json", re.ASCII)
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
            CertificateError: it cannot be read, or is the certificate of another symbol, day or revision.
        """
        document = parse_document(self.path.read_bytes(), str(self.path))
        folders = tuple(_file_name(document[name]) for name in ("exchange", "symbol"))
        if not self.is_named_as(document) or self.path.parts[-3:-1] != folders:
            raise CertificateError(
                f"{self.path} is the certificate of {document['exchange']} {document['symbol']}, {document['day']}, "
                f"revision {document['revision']}; restore the file"
            )
        return document

    def is_named_as(self, document: Document) -> bool:
        """Return whether the file's name is that of a document of this day and revision."""
        return self.path.name == certificate_name(document["day"], document["revision"])


class CertificateFolder:
    """Certificates in `EXCHANGE/SYMBOL/DAY.json`, later revisions in `DAY.2.json` and so on."""

    def __init__(self, root: Path) -> None:
        """Use a folder, which need not exist."""
        self._root = root

    def stored(self, exchange: str, symbol: str) -> list[StoredCertificate]:
        """Return the certificates of a symbol, the oldest day and its first revision first."""
        return sorted(_in(self._folder(exchange, symbol)))

    def others_of_day(self, exchange: str, day: date, symbols: Collection[str]) -> Iterator[StoredCertificate]:
        """Yield the newest certificate of a day of each symbol of an exchange that is not among `symbols`."""
        known, folder = {_file_name(symbol) for symbol in symbols}, self._root / _file_name(exchange)
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            of_day = [] if path.name in known else [one for one in _in(path) if one.day == day]
            if of_day:
                yield max(of_day)

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
        path = folder / certificate_name(document["day"], document["revision"])
        # A name of its own: another process may write the same revision at this moment.
        partial = path.with_suffix(f".{token_hex(8)}.partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_text(document_text(document), encoding="utf-8")
                # A link, unlike a rename, does not replace a file.
                path.hardlink_to(partial)
            finally:
                partial.unlink(missing_ok=True)
            page_path(path).write_text(page, encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"--output {self._root}: {path} cannot be written: {error.strerror}") from error
        return path

    def _folder(self, exchange: str, symbol: str) -> Path:
        return self._root / _file_name(exchange) / _file_name(symbol)


def certificate_name(day: str, revision: int) -> str:
    """Return the name of a certificate's file.

    >>> certificate_name("2024-08-09", 1), certificate_name("2024-08-09", 2)
    ('2024-08-09.json', '2024-08-09.2.json')
    """
    return f"{day}.json" if revision == 1 else f"{day}.{revision}.json"


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
        match = _NAME.fullmatch(path.name)
        day = None if match is None else _day(match[1])
        if match is not None and day is not None:
            yield StoredCertificate(day, int(match[2] or 1), path)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _file_name(name: str) -> str:
    """Return a name as that of a file: letters, digits, `_`, `-` and `~` as they are, the others as `%XX`.

    A long one is cut, and a hash of the whole is added. An empty one is `%`, so that it has a folder of its own.

    >>> _file_name("BTC/USD"), _file_name(".."), _file_name("")
    ('BTC%2FUSD', '%2E%2E', '%')
    """
    quoted = quote(name, safe="").replace(".", "%2E") or "%"
    if len(quoted) <= _NAME_BYTES_MAX:
        return quoted
    return f"{quoted[: _NAME_BYTES_MAX - 40]}%~{sha256(name.encode()).hexdigest()[:32]}"

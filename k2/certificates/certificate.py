"""A certificate: the document of one exchange, symbol and day, its canonical hash, and what it says of another."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from datetime import date, datetime
from typing import Any, Final

from k2.certificates.canonical import document_hash
from k2.certificates.condition import COUNTS, DayFacts
from k2.model.errors import K2Error

__all__ = ["FORMAT", "CertificateError", "Document", "attested", "differing", "document_text", "parse_document"]

FORMAT: Final = 1
Document = Mapping[str, Any]
"""The JSON document of a certificate."""
_ATTESTED: Final = tuple(one.name for one in fields(DayFacts) if one.name != "last_modified")
_REQUIRED: Final = frozenset(
    {"format", "exchange", "symbol", "day", "condition", "root", "snapshot_id", "revision", "previous", "amends"}
    | {"public_key", "signature", "certified_at", "table", "condition_of_rows", *_ATTESTED}
)


class CertificateError(K2Error, ValueError):
    """A file is not a certificate that can be read."""

    exit_code = 2


def attested(facts: DayFacts) -> dict[str, Any]:
    """Return what a certificate says of the facts, as JSON values."""
    found = {name: value for name, value in asdict(facts).items() if name in _ATTESTED}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [dict(one) for one in value]
    return time_text(value) if isinstance(value, datetime) else value


def time_text(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC with microseconds.

    >>> from datetime import UTC
    >>> time_text(datetime(2024, 8, 9, 12, tzinfo=UTC))
    '2024-08-09T12:00:00.000000Z'
    """
    return time.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def differing(old: Document, new: Document) -> Iterator[str]:
    """Yield in words what two documents of one day say differently of its facts.

    Whether numbers of the next day follow is left out: it becomes known only then.
    """
    for name in _ATTESTED:
        was, now = _compared(old[name]), _compared(new[name])
        if was != now:
            label = name.replace("_", " ")
            yield f"{label}: {was} then, {now} now" if isinstance(was, int | str | None) else f"{label} differ"


def _compared(value: Any) -> Any:
    if isinstance(value, list):
        return [{name: one for name, one in row.items() if name != "is_followed"} for row in value]
    return value


def document_text(document: Document) -> str:
    """Return the text of a certificate's file: JSON for people, since its hash does not depend on the layout."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def parse_document(text: bytes, name: str) -> Document:
    """Parse the text of a file of this name.

    Raises:
        CertificateError: it is not a certificate, or of another format.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise CertificateError(f"{name} is not a certificate: {error}; name a file that k2 certify wrote") from None
    if not isinstance(document, dict) or "root" not in document:
        raise CertificateError(f"{name} is not a certificate; name a file that k2 certify wrote")
    if document.get("format") != FORMAT:
        raise CertificateError(f"{name} has format {document.get('format')}; use a version of k2 that knows it")
    if lacking := sorted(_REQUIRED - document.keys()):
        raise CertificateError(f"{name} is not a whole certificate: it has no {lacking[0]}; restore the file")
    try:
        _check_types(document)
        document_hash(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateError(f"{name} is not a certificate: {error}; restore the file") from None
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Of two values with one key, a reader sees one and a program may take the other."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name} occurs twice")
        found[name] = value
    return found


def _refuse(number: str) -> None:
    raise ValueError(f"{number} is not an integer")


def _check_types(document: Document) -> None:
    """Raise a TypeError or ValueError if a name, day, number or list of the document has another type."""
    date.fromisoformat(document["day"])
    for name in ("exchange", "symbol", "root", "condition", "condition_of_rows", "table"):
        if not isinstance(document[name], str):
            raise TypeError(f"{name} is not a text")
    for name in ("sessions", "offsets"):
        if not isinstance(document[name], list) or not all(isinstance(one, dict) for one in document[name]):
            raise TypeError(f"{name} is not a list of objects")
    for name in ("snapshot_id", "revision", *COUNTS):
        # A boolean is an integer in Python, and equals one.
        if not isinstance(document[name], int | None) or isinstance(document[name], bool):
            raise TypeError(f"{name} is not a number")
    if document["revision"] is None:
        raise TypeError("revision is not a number")
    for name in ("previous", "amends"):
        link = document[name]
        if link is None:
            continue
        if not isinstance(link, dict) or not isinstance(link["revision"], int):
            raise TypeError(f"{name} names no certificate")
        date.fromisoformat(link["day"] if "day" in link else document["day"])
        if not isinstance(link["hash"], str):
            raise TypeError(f"{name} has no hash")

"""Documents of certificates: what is read, and what is refused in one sentence."""

from typing import Any

import pytest

from k2.certificates.canonical import document_hash
from k2.certificates.certificate import CertificateError, attested, differing, document_text, parse_document
from k2.certificates.condition import DayFacts, SessionNumbers

NUMBERS = SessionNumbers(1, 5, 9, 5, follows_stored=True, is_followed=False)
DOCUMENT: dict[str, Any] = {
    "format": 1,
    "exchange": "kraken",
    "symbol": "BTC/USD",
    "day": "2024-08-09",
    "condition": "complete",
    "condition_of_rows": "complete",
    "table": "b7e4",
    "root": "00",
    "snapshot_id": 2**62,
    "revision": 1,
    "certified_at": "2024-08-10T00:00:01.000000Z",
    "previous": None,
    "amends": None,
    "public_key": None,
    "signature": None,
    **attested(DayFacts(trades=5, stored=5, expected=5, sessions=(NUMBERS,))),
}


def test_a_document_is_read_as_it_was_written() -> None:
    """Whatever its layout, with all digits of its numbers."""
    text = document_text(DOCUMENT).encode()
    assert parse_document(text, "x") == DOCUMENT
    assert document_hash(parse_document(text.replace(b"  ", b""), "x")) == document_hash(DOCUMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"day": "yesterday"},
        {"day": 5},
        {"symbol": None},
        {"sessions": "none"},
        {"offsets": [1]},
        {"snapshot_id": "9"},
        {"revision": None},
        {"previous": "x"},
        {"previous": {"day": "../x", "revision": 1, "hash": "00"}},
        {"amends": {"revision": 1}},
        {"format": 2},
        {"missing": False},
        {"trades": 5.0},
        {"stored": float("nan")},
        {"revision": True},
        {"table": None},
    ],
)
def test_a_document_with_other_values_is_refused(change: dict[str, Any]) -> None:
    """The sentence names the file."""
    with pytest.raises(CertificateError, match=r"^x\.json (is not|has format)"):
        parse_document(document_text({**DOCUMENT, **change}).encode(), "x.json")


def test_a_key_that_occurs_twice_is_refused() -> None:
    """Otherwise people would read one value, and the signature would be over the other; at any depth."""
    text = document_text(DOCUMENT)
    for name, other in (('"missing": 0', '"missing": 3'), ('"first_sequence": 5', '"first_sequence": 4')):
        with pytest.raises(CertificateError, match=r"x\.json is not a certificate: the key \w+ occurs twice"):
            parse_document(text.replace(name, f"{other}, {name}").encode(), "x.json")


@pytest.mark.parametrize("name", ["table", "condition_of_rows", "missing"])
def test_a_document_without_a_value_is_refused(name: str) -> None:
    """The sentence says which is absent."""
    lacking = {key: value for key, value in DOCUMENT.items() if key != name}
    with pytest.raises(CertificateError, match=f"x is not a whole certificate: it has no {name}; restore the file"):
        parse_document(document_text(lacking).encode(), "x")


def test_what_the_next_day_shows_is_no_difference() -> None:
    """Whether a number follows the last one is known later; any other change is said."""
    followed = {**DOCUMENT, "sessions": [{**DOCUMENT["sessions"][0], "is_followed": True}]}
    assert [*differing(DOCUMENT, followed)] == []
    assert [*differing(DOCUMENT, {**followed, "missing": 2, "sessions": []})] == [
        "missing: 0 then, 2 now",
        "sessions differ",
    ]

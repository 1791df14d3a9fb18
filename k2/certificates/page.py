"""The page of a certificate: one HTML file for people, without scripts or other files."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from k2.certificates.canonical import document_hash
from k2.certificates.certificate import Document
from k2.certificates.condition import COUNTS, MEANINGS, Condition

__all__ = ["page"]

_COLOURS: Final = {
    Condition.COMPLETE: "#1a7f37",
    Condition.ACCEPTED: "#0969da",
    Condition.OPEN: "#cf222e",
    Condition.DEGRADED: "#9a6700",
    Condition.AMENDED: "#8250df",
}
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
.condition { display: inline-block; color: #fff; border-radius: 4px; padding: .1rem .6rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .75rem .3rem 0; }
tr { border-bottom: 1px solid #d1d9e0; } th { font-weight: 500; color: #59636e; }
th:last-child { text-align: right; } th:last-child, td:first-child { white-space: nowrap; }
td.count { text-align: right; font-variant-numeric: tabular-nums; } code { overflow-wrap: anywhere; font-size: .85em; }
"""


def page(document: Document) -> str:
    """Return a certificate as an HTML page."""
    found = Condition(document["condition"])
    title = f"{document['exchange']} {document['symbol']}, {document['day']}"
    parts = [
        f"<h1>{escape(title)}</h1><p>Certificate of one day of trades (UTC), revision {document['revision']}</p>",
        f'<p><span class="condition" style="background: {_COLOURS[found]}">{found}</span> {MEANINGS[found]}</p>',
        _list(document["reasons"]),
        *_amendment(document),
        "<h2>Counts</h2>",
        _table([], [(name.replace("_", " "), document[name]) for name in COUNTS]),
        "<h2>Sessions of the numbering</h2>",
        _table(
            ["session", "first number", "last number", "number before it", "number after it", "trades"],
            [_session_cells(one) for one in document["sessions"]],
        ),
        "<h2>Kafka offsets of the rows</h2>",
        _table(
            ["topic", "partition", "first offset", "last offset", "trades"],
            [
                (*(str(one[name]) for name in ("topic", "partition", "first_offset", "last_offset")), one["trades"])
                for one in document["offsets"]
            ],
        ),
        "<h2>Evidence</h2>",
        _table([], _evidence(document)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _session_cells(one: Document) -> tuple[object, ...]:
    numbers = (str(one[name]) for name in ("session", "first_sequence", "last_sequence"))
    neighbours = ("stored" if one[name] else "unknown" for name in ("follows_stored", "is_followed"))
    return (*numbers, *neighbours, one["trades"])


def _amendment(document: Document) -> Iterable[str]:
    if document["amends"] is None:
        return
    yield f"<h2>Since revision {document['amends']['revision']}</h2>{_list(document['amends']['changes'])}"
    if document["amends"]["root"] != document["root"]:
        yield _table([], [("root then", _code(document["amends"]["root"])), ("root now", _code(document["root"]))])


def _evidence(document: Document) -> list[tuple[str, object]]:
    previous = document["previous"]
    signature = "not signed" if document["public_key"] is None else _code(f"Ed25519, key {document['public_key']}")
    chain = "none" if previous is None else _code(f"{previous['day']}, SHA-256 {previous['hash']}")
    return [
        ("Merkle root of the rows", _code(document["root"])),
        ("SHA-256 of this certificate", _code(document_hash(document))),
        ("certificate before it", chain),
        ("signature", signature),
        ("table", _code(f"{document['table']}, snapshot {document['snapshot_id']}")),
        ("certified", f"{document['certified_at']} by k2 {document['version']}"),
    ]


class _Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _code(text: str) -> _Html:
    return _Html(f"<code>{escape(text)}</code>")


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>none</p>"
    head = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in names)}</tr>" if names else ""
    return f"<table>{head}{''.join(f'<tr>{_cells(row)}</tr>' for row in rows)}</table>"


def _cells(row: Sequence[object]) -> str:
    return "".join(map(_cell, row))


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="count">{value:,}</td>'
    if value is None:
        return '<td class="count">unknown</td>'
    return f"<td>{value if isinstance(value, _Html) else escape(str(value))}</td>"

"""`k2 certify`: issue certificates of a day's trades."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.certificates.condition import Condition
from k2.certificates.signing import new_key as make_key
from k2.certificates.signing import private_key
from k2.cli.console import Json, print_json
from k2.cli.options import parse_name, parse_path
from k2.cli.table_output import print_table, printable
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.query.certify import IssuedCertificate
from k2.query.certify import certify as issue

__all__ = ["certify", "parse_day"]

LISTED_MAX: Final = 100
"""Certificates that are listed; those that are not complete come first."""
_COLUMNS: Final = ("symbol", "condition", "trades", "missing", "revision", "why")


def certify(
    *,
    exchange: Annotated[str | None, typer.Option(parser=parse_name, help="Exchange of the trades.")] = None,
    day: Annotated[str | None, typer.Option(help="Day by venue time, UTC, such as 2024-08-09.")] = None,
    symbol: Annotated[str | None, typer.Option(parser=parse_name, help="Certify this symbol only.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(parser=parse_path, help="Folder of the certificates instead of K2_DATA_DIR/certificates."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(parser=parse_path, help="Sign with the Ed25519 key in this file (PEM).")
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option(parser=parse_path, help="Make a key in this file, and its public key in FILE.pub.")
    ] = None,
    with_leaves: Annotated[
        bool, typer.Option("--with-leaves", help="Keep the hash of each row, so that k2 verify can name a changed one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Issue a certificate of each symbol of a day: what is stored, what is missing, and a Merkle root over the rows.

    A certificate that exists and says the same is kept. One that says something else stays too, and a new revision
    says what changed. docs/certificates.md defines what is hashed and signed.
    """
    settings = read_settings()
    if key is not None and new_key is not None:
        raise SettingsError("--key and --new-key cannot be used together; sign with one of them")
    chosen_day = None if day is None else parse_day(day)
    if (exchange is None or chosen_day is None) and (new_key is None or exchange is not None or chosen_day is not None):
        raise SettingsError("--exchange and --day are needed; name both, such as --exchange kraken --day 2024-08-09")
    if new_key is not None:
        public = make_key(new_key)
        typer.echo(f"new key in {new_key}, its public key {public} in {new_key}.pub", err=True)
    if exchange is None or chosen_day is None:
        return
    chosen = key or new_key
    issued = issue(
        settings,
        exchange,
        chosen_day,
        symbol,
        folder=output or settings.data_dir / "certificates",
        key=None if chosen is None else private_key(chosen),
        with_leaves=with_leaves,
    )
    if as_json:
        print_json([{"path": one.path, "is_new": one.is_new, **one.document} for one in issued])
        return
    _print(issued)
    if any(one.document["public_key"] is None for one in issued):
        typer.echo("not signed; use --key FILE, and --new-key FILE to make one", err=True)


def parse_day(text: str) -> date:
    """Parse `--day`.

    Raises:
        SettingsError: it is not a date.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--day {text!r}: not a day; use YYYY-MM-DD, such as 2024-08-09") from None


def _print(issued: Sequence[IssuedCertificate]) -> None:
    ordered = sorted(issued, key=lambda one: one.document["condition"] == Condition.COMPLETE)
    rows = [[_cell(one, name) for name in _COLUMNS] for one in ordered[:LISTED_MAX]]
    print_table("Certificates", _COLUMNS, rows)
    if len(issued) > LISTED_MAX:
        typer.echo(f"{LISTED_MAX} of {len(issued):,} are listed; --json lists all", err=True)
    conditions = Counter(one.document["condition"] for one in issued)
    counted = ", ".join(f"{count:,} {name}" for name, count in conditions.most_common())
    new = sum(one.is_new for one in issued)
    where = issued[0].path.parent.parent
    typer.echo(f"{format_count(len(issued), 'certificate')} ({counted}), {new:,} of them new, in {where}", err=True)


def _cell(one: IssuedCertificate, name: str) -> object:
    if name == "why":
        return "; ".join(one.document["reasons"])
    return printable(one.document[name]) if name == "symbol" else one.document[name]

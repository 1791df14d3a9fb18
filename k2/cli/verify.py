"""`k2 verify`: compare certificates with their signature, their chain, and the table."""

from pathlib import Path
from typing import Annotated

import typer

from k2.certificates.signing import public_key_of_file
from k2.cli.console import Json, print_json
from k2.cli.options import parse_as_of, parse_path
from k2.cli.table_output import printable
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.query.verify import Verification
from k2.query.verify import verify as verify_all

__all__ = ["verify"]


def verify(
    certificates: Annotated[
        list[Path], typer.Argument(metavar="CERT...", parser=parse_path, help="Certificates, or folders of them.")
    ],
    *,
    public_key: Annotated[
        Path | None, typer.Option(parser=parse_path, help="Require a signature by this Ed25519 key (PEM).")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Compare with the rows as of a time or snapshot id, without the counts.")
    ] = None,
    without_table: Annotated[bool, typer.Option("--without-table", help="Check signature and chain only.")] = False,
    as_json: Json = False,
) -> None:
    """Recompute what certificates say, and print precisely what differs; exit with code 1 if anything does.

    A signature proves who signed only with --public-key: without it, the certificate's own key is used.
    """
    if as_of is not None and without_table:
        raise SettingsError("--as-of and --without-table cannot be used together; leave one out")
    found = verify_all(
        read_settings(),
        certificates,
        public_key=None if public_key is None else public_key_of_file(public_key),
        as_of=None if as_of is None else parse_as_of(as_of),
        without_table=without_table,
    )
    if as_json:
        print_json(found)
    else:
        for one in found:
            _print(one)
        unsigned = sum(one.signed_by is None for one in found)
        differ = sum(not one.holds for one in found)
        typer.echo(
            f"{format_count(len(found), 'certificate')}: {differ:,} differ, {unsigned:,} without a valid signature",
            err=True,
        )
    if not all(one.holds for one in found):
        raise typer.Exit(1)


def _print(one: Verification) -> None:
    verdict = "agrees" if one.holds else "DIFFERS"
    typer.echo(f"{printable(one.exchange)} {printable(one.symbol)} {one.day} ({one.condition}): {verdict}")
    for difference in one.differences:
        typer.echo(f"  {printable(difference)}")

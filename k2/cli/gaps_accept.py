"""`k2 gaps accept`: record that missing numbers never existed or will not come."""

from dataclasses import asdict
from typing import Annotated

import typer

from k2.cli.console import Json, print_record
from k2.cli.options import parse_name, user_at_host
from k2.cli.table_output import format_time
from k2.model.decisions import Witness, checked_text, reason_text
from k2.ops.settings import read_settings

__all__ = ["accept"]


def accept(
    exchange: Annotated[str, typer.Argument(parser=parse_name, metavar="EXCHANGE")],
    symbol: Annotated[str, typer.Argument(parser=parse_name, metavar="SYMBOL")],
    first: Annotated[int, typer.Argument(metavar="FIRST", help="First sequence number.")],
    last: Annotated[int, typer.Argument(metavar="LAST", help="Last sequence number, inclusive.")],
    *,
    reason: Annotated[str, typer.Option(help="Say why they are missing for good; it is recorded.")],
    session: Annotated[
        int | None, typer.Option(min=1, help="Select a session; needed if several have such numbers.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Name who decides; user@host by default.")] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:TEXT",
            help="Name a source that lacks them: stream, rest, archive or person; may be repeated. "
            "All but a person need a second one of another kind.",
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo their acceptance: they are missing again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be recorded, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Accept missing sequence numbers: they never existed, or will not come.

    Only those of the range that are missing now are accepted. They no longer count as missing, nor as expected. A trade
    that comes after all is stored, and fills its gap. Exit with code 1 if none of them is missing.
    """
    from k2.maintenance.acceptance import Request, decide  # noqa: PLC0415  `k2 gaps` does not need what writes tables

    request = Request(
        exchange,
        symbol,
        first,
        last,
        reason_text(reason, tuple(map(Witness.parse, witness or ()))),
        checked_text("--by", user_at_host() if by is None else by),
        session=session,
        is_undo=undo,
    )
    decided = decide(read_settings(), request, dry_run=dry_run)
    record = asdict(decided)
    if not as_json:
        record["ranges"] = [f"{low} to {high}" if low < high else f"{low}" for low, high in decided.ranges]
        record["decided_at"] = f"{format_time(decided.decided_at)} UTC"
    print_record({**record, "dry_run": dry_run}, as_json=as_json)

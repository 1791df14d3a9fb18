"""`k2 audit`: each commit of the job, and whether they are complete; or the trades that are stored twice."""

from collections.abc import Sequence
from typing import Annotated

import typer

from k2.cli.console import Json, say_json
from k2.cli.doubled import say_doubled
from k2.cli.options import given_span
from k2.cli.result_output import Output
from k2.cli.table_output import Name, print_table, spell_count, spell_time
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings
from k2.query.audit import Audit, AuditedCommit
from k2.query.audit import audit as find_commits

__all__ = ["audit"]


def audit(
    *,
    start: Annotated[str | None, typer.Option(help="Commits from this time on: RFC 3339, or a day.")] = None,
    end: Annotated[str | None, typer.Option(help="Commits before this time.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="So many at most: the newest, or the first doubled.")] = None,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="A row for each topic partition that a commit moved.")
    ] = False,
    doubled: Annotated[
        bool, typer.Option("--doubled", help="List trades stored in two sessions by an earlier version instead.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List each commit of the job to the table of trades, the oldest first, whether or not its snapshot has expired.

    Exit code 1 where the commits of all time do not add up to the table's progress: some are not known any more.

    With --doubled list the numbers that are stored with the same content in more than one session; exit code 1 if there
    are any. Nothing is deleted. --output goes with --doubled alone.
    """
    span = given_span(start, end)
    if doubled:
        if partitions or span != (None, None):
            raise SettingsError("--doubled: cannot be combined with --start, --end or --partitions; leave those out")
        say_doubled(read_settings(), limit, output, as_json=as_json)
        return
    if output is not None:
        raise SettingsError("--output: only --doubled writes a file; use --json for the commits")
    found = find_commits(read_settings(), *span, limit)
    if as_json:
        say_json(found.commits)
    elif partitions:
        _show_partitions(found.commits)
    else:
        _show(found.commits)
    _sum_up(found)


def _show(commits: Sequence[AuditedCommit]) -> None:
    rows = [
        [spell_time(one.committed_at), Name(one.snapshot_id), _name(one.parent_id), one.rows, one.files]
        for one in commits
    ]
    print_table("Commits", ["committed_at", "snapshot", "parent", "rows", "files"], rows)


def _show_partitions(commits: Sequence[AuditedCommit]) -> None:
    counts = ["received", "stored", "duplicates", "dead_letters", "skipped"]
    rows = [
        [
            Name(one.snapshot_id),
            one.writer,
            f"{move['topic']}:{move['partition']}",
            Name(move["offset"]),
            *(move[name] for name in counts),
        ]
        for one in commits
        for move in one.partitions
    ]
    print_table("Commits by partition", ["snapshot", "writer", "partition", "offset", *counts], rows)


def _name(snapshot_id: int | None) -> object:
    return "-" if snapshot_id is None else Name(snapshot_id)


def _sum_up(found: Audit) -> None:
    expired = sum(one.expired for one in found.commits)
    rows = sum(one.rows for one in found.commits if not one.undone)
    counts = spell_count(len(found.commits), "commit"), spell_count(rows, "row"), spell_count(expired, "snapshot")
    typer.echo("{} with {}; {} expired".format(*counts), err=True)
    if undone := sum(one.undone for one in found.commits):
        typer.echo(f"{undone:,} commits, not in these rows, were undone: the table was put back behind them", err=True)
    for one in found.commits:
        if one.remark:
            typer.echo(f"{spell_time(one.committed_at)} snapshot {one.snapshot_id}: {one.remark}", err=True)
    if not found.adds_up:
        typer.echo(
            "the commits known of do not add up to the progress in the table: others were made, and expired, before "
            "the job kept a trail of them",
            err=True,
        )
        raise typer.Exit(1)

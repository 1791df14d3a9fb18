"""`k2 audit`: list the commits of the job and check that none is missing, or list trades that are stored twice."""

from collections.abc import Sequence
from typing import Annotated

import typer

from k2.cli.console import Json, print_json
from k2.cli.doubled import report_doubled
from k2.cli.options import parse_span
from k2.cli.result_output import Output
from k2.cli.table_output import Identifier, format_time, print_table
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.query.audit import Audit, AuditedCommit
from k2.query.audit import audit as find_commits

__all__ = ["audit"]


def audit(
    *,
    start: Annotated[str | None, typer.Option(help="Start of the commit times, inclusive: RFC 3339 or a day.")] = None,
    end: Annotated[str | None, typer.Option(help="End of the commit times, exclusive.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Maximum rows: the newest commits, or the first doubled numbers.")
    ] = None,
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Print one row for each topic partition of a commit.")
    ] = False,
    doubled: Annotated[
        bool, typer.Option("--doubled", help="List trades that an earlier version stored in two sessions.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List the commits of the job to the table of trades, oldest first, including those whose snapshot has expired.

    Exit with code 1 if all known commits do not add up to the table's progress: some commits are lost.

    With --doubled, list the numbers that are stored with the same content in more than one session, and exit with
    code 1 if there are any. Nothing is deleted. Use --output only with --doubled.
    """
    span = parse_span(start, end)
    if doubled:
        if partitions or span != (None, None):
            raise SettingsError("--doubled: cannot be combined with --start, --end or --partitions; leave those out")
        report_doubled(read_settings(), limit, output, as_json=as_json)
        return
    if output is not None:
        raise SettingsError("--output: only --doubled writes a file; use --json for the commits")
    found = find_commits(read_settings(), *span, limit)
    if as_json:
        print_json(found.commits)
    elif partitions:
        _print_partitions(found.commits)
    else:
        _print_commits(found.commits)
    _print_summary(found)


def _print_commits(commits: Sequence[AuditedCommit]) -> None:
    rows = [
        [
            format_time(commit.committed_at),
            Identifier(commit.snapshot_id),
            "-" if commit.parent_id is None else Identifier(commit.parent_id),
            commit.rows,
            commit.files,
            "-" if commit.lag is None else commit.lag,
        ]
        for commit in commits
    ]
    print_table("Commits", ["committed_at", "snapshot", "parent", "rows", "files", "lag"], rows)


def _print_partitions(commits: Sequence[AuditedCommit]) -> None:
    counts = ["received", "stored", "duplicates", "dead_letters", "skipped", "corrections"]
    rows = [
        [
            Identifier(commit.snapshot_id),
            commit.writer,
            f"{move['topic']}:{move['partition']}",
            Identifier(move["offset"]),
            *(move[name] for name in counts),
        ]
        for commit in commits
        for move in commit.partitions
    ]
    print_table("Commits by partition", ["snapshot", "writer", "partition", "offset", *counts], rows)


def _print_summary(found: Audit) -> None:
    expired = sum(commit.expired for commit in found.commits)
    rows = sum(commit.rows for commit in found.commits if not commit.undone)
    counts = format_count(len(found.commits), "commit"), format_count(rows, "row"), format_count(expired, "snapshot")
    typer.echo("{} with {}; {} expired".format(*counts), err=True)
    if undone := sum(commit.undone for commit in found.commits):
        typer.echo(
            f"{undone:,} commits are undone and not counted in these rows: an older snapshot of the table was restored",
            err=True,
        )
    for commit in found.commits:
        if commit.remark:
            typer.echo(f"{format_time(commit.committed_at)} snapshot {commit.snapshot_id}: {commit.remark}", err=True)
    if not found.adds_up:
        typer.echo(
            "the known commits do not add up to the progress in the table: other commits expired before the job kept a "
            "commit log",
            err=True,
        )
        raise typer.Exit(1)

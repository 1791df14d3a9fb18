"""The `k2` command: each sub-command is a function in a file of its own, named in the table here."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, ClassVar

import typer

from k2.cli.console import Command, Commands

__all__ = ["app"]


class K2(Commands):
    """All sub-commands."""

    table: ClassVar[Mapping[str, Command]] = {
        "produce": Command("k2.cli.produce", "produce", "Publish captures to Kafka, each line as it is."),
        "demo": Command("demo", "demo", "A market with known faults, captured by the job and compared."),
        "symbols": Command("k2.cli.queries", "symbols", "Exchanges and symbols, with the number of their trades."),
        "trades": Command("k2.cli.queries", "trades", "Trades, as stored."),
        "latest": Command("k2.cli.queries", "latest", "The latest trade of each symbol."),
        "ohlcv": Command("k2.cli.queries", "ohlcv", "Bars of any interval."),
        "vwap": Command("k2.cli.queries", "vwap", "Prices weighted by quantity."),
        "twap": Command("k2.cli.queries", "twap", "Prices weighted by time."),
        "sql": Command("k2.cli.queries", "sql", "Free SQL over the tables, in a sandbox."),
        "serve": Command("k2.cli.serve", "serve", "The HTTP API: queries and reports for programs."),
        "dlq": Command("k2.cli.dlq", "app", "Dead letters: messages set aside, with their reasons."),
        "gaps": Command("k2.cli.gaps", "gaps", "Sequence numbers that are missing, and those that came late."),
        "completeness": Command("k2.cli.completeness", "completeness", "How much of each symbol and day is there."),
        "reconcile": Command("k2.cli.reconcile", "reconcile", "Whether what was received is all accounted for."),
        "audit": Command("k2.cli.audit", "audit", "Each commit of the job to the table of trades."),
        "recovery": Command("k2.cli.recovery", "app", "The recovery store: made, looked at, backed up, restored."),
    }


app = typer.Typer(
    cls=K2,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A bug shows Python's own traceback, without the values of variables: some are secrets.
    pretty_exceptions_enable=False,
    help="Market trades from Kafka into Apache Iceberg: each one once, every gap in the numbering known.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 wrong usage or settings, 3 an outside part is not reached.",
)


def _version(asked: bool) -> None:  # noqa: FBT001  typer calls it with the option's value
    if asked:
        try:
            typer.echo(f"k2 {version('k2-trades')}")
        except PackageNotFoundError:
            typer.echo("k2, run from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def k2(
    *,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")] = False,
) -> None:
    """Set up what every command shares."""
    from k2.ops.logs import set_up_logs  # noqa: PLC0415  `k2 --help` does without

    set_up_logs()


if __name__ == "__main__":
    app()

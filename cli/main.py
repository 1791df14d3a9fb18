"""The `k2` command: each sub-command is a function in a file of its own, named in the table here."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, ClassVar

import typer

from cli.console import Command, Commands

__all__ = ["app"]


class K2(Commands):
    """All sub-commands."""

    table: ClassVar[Mapping[str, Command]] = {
        "produce": Command("cli.produce", "produce", "Publish captures to Kafka, each line as it is."),
        "demo": Command("cli.demo", "demo", "A market with known faults, captured by the job and compared."),
        "symbols": Command("cli.market", "symbols", "Exchanges and symbols, with the number of their trades."),
        "trades": Command("cli.market", "trades", "Trades, as stored."),
        "latest": Command("cli.market", "latest", "The latest trade of each symbol."),
        "ohlcv": Command("cli.market", "ohlcv", "Bars of any interval."),
        "vwap": Command("cli.market", "vwap", "Prices weighted by quantity."),
        "twap": Command("cli.market", "twap", "Prices weighted by time."),
        "sql": Command("cli.market", "sql", "Free SQL over the tables, in a sandbox."),
        "serve": Command("cli.serve", "serve", "The HTTP API: queries and reports for programs."),
        "dlq": Command("cli.dlq", "app", "Dead letters: messages set aside, with their reasons."),
        "gaps": Command("cli.gaps", "gaps", "Sequence numbers that are missing, and those that came late."),
        "completeness": Command("cli.completeness", "completeness", "How much of each symbol and day is there."),
        "reconcile": Command("cli.reports", "reconcile", "Whether what was received is all accounted for."),
        "audit": Command("cli.audit", "audit", "Each commit of the job to the table of trades."),
        "recovery": Command("cli.recovery", "app", "The recovery store: made, looked at, backed up, restored."),
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
    from runtime.logs import set_up_logs  # noqa: PLC0415  `k2 --help` does without

    set_up_logs()


if __name__ == "__main__":
    app()

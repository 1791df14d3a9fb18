"""Report of the demo: tables, or one JSON document."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from demo.run import Outcome

__all__ = ["WIDTH_MAX", "document", "print_outcome"]

WIDTH_MAX: Final = 100
_GAPS_SHOWN: Final = 5


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Print the report on stdout."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document(outcome)), indent=2) + b"\n")
        return
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH_MAX) if console.is_terminal else WIDTH_MAX
    for table in (_checks(outcome), _partitions(outcome), _exchanges(outcome), _gaps(outcome)):
        console.print(table)
    for line in _lines(outcome):
        console.print(line, soft_wrap=True)


def document(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as the content of one JSON document."""
    rate = outcome.speed.messages_per_second
    job_seconds = sum(outcome.run_seconds)
    return {
        "ok": outcome.ok,
        "messages": outcome.plan.messages,
        "symbols": outcome.plan.symbols,
        "seed": outcome.plan.seed,
        "seconds": round(outcome.seconds, 3),
        "publish_seconds": round(outcome.publish_seconds, 3),
        "run_seconds": [round(seconds, 3) for seconds in outcome.run_seconds],
        "messages_per_second": None if rate is None else round(rate),
        "steady_messages": outcome.speed.messages,
        "steady_seconds": round(outcome.speed.seconds, 3),
        "messages_per_second_with_start": round(outcome.plan.messages / job_seconds),
        "start_seconds": [round(seconds, 3) for seconds in outcome.speed.start_seconds],
        "compile_seconds": round(outcome.speed.compile_seconds, 3),
        "killed_at": outcome.killed_at,
        "injected": dict(sorted(outcome.expected.injected.items())),
        "checks": [{**check._asdict(), "ok": check.ok} for check in outcome.checks],
        "partitions": outcome.found.partitions,
        "exchanges": outcome.found.exchanges,
        "open_gaps": [{**gap._asdict(), "missing": gap.missing} for gap in outcome.found.missing],
        "folder": str(outcome.plan.folder),
        "tables": str(outcome.settings.data_dir / "warehouse"),
        "dead_letters": str(outcome.settings.dead_letter_folder),
    }


def _table(title: str, *columns: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _checks(outcome: Outcome) -> Table:
    numbers = ("injected", "found")
    table = _table("Injected against found", "", *numbers, "", "of which", numbers=numbers)
    for check in outcome.checks:
        verdict = "[green]ok[/]" if check.ok else "[bold red]DIFFERS[/]"
        table.add_row(check.name, f"{check.injected:,}", f"{check.found:,}", verdict, check.made_of)
    return table


def _partitions(outcome: Outcome) -> Table:
    numbers = ("received", "stored", "duplicates", "dead letters", "skipped")
    title = "Reconciliation: received = stored + duplicates + dead letters + skipped"
    table = _table(title, "partition", *numbers, "", numbers=numbers)
    for one in outcome.found.partitions:
        counts = (one.received, one.stored, one.duplicates, one.dead_letters, one.skipped)
        verdict = "[green]holds[/]" if one.holds else "[bold red]BROKEN[/]"
        table.add_row(f"{one.topic}:{one.partition}", *(f"{count:,}" for count in counts), verdict)
    return table


def _exchanges(outcome: Outcome) -> Table:
    numbers = ("symbols", "trades", "volume")
    table = _table("Trades by exchange (DuckDB)", "exchange", *numbers, "first", "last", numbers=numbers)
    for one in outcome.found.exchanges:
        times = (f"{time:%Y-%m-%d %H:%M:%S}" for time in (one.first, one.last))
        table.add_row(one.exchange, f"{one.symbols:,}", f"{one.trades:,}", f"{one.volume:,.0f}", *times)
    return table


def _gaps(outcome: Outcome) -> Table:
    missing = outcome.found.missing
    numbers = ("session", "first", "last", "missing")
    table = _table(f"Open gaps: {len(missing):,}", "exchange", "symbol", *numbers, numbers=numbers)
    for gap in missing[:_GAPS_SHOWN]:
        figures = (gap.session, gap.first_sequence, gap.last_sequence, gap.missing)
        table.add_row(gap.exchange, gap.symbol, *(str(figure) for figure in figures))
    if len(missing) > _GAPS_SHOWN:
        table.add_row("...", "", "", "", "", f"{sum(gap.missing for gap in missing):,} in all")
    return table


def _k2() -> str:
    """Return the command for `k2`: its full path if it is not on the search path, as after `make demo`."""
    installed = Path(sys.executable).with_name("k2")
    return shlex.quote(str(installed)) if shutil.which("k2") is None and installed.exists() else "k2"


def _environment(outcome: Outcome) -> str:
    """Return the variables that let `k2` read the demo's tables, as a shell writes them before a command."""
    settings = outcome.settings
    variables = {"K2_DATA_DIR": str(outcome.plan.folder), "K2_NAMESPACE": settings.namespace}
    if settings.catalog != "k2" or "K2_CATALOG" in os.environ:
        variables["K2_CATALOG"] = settings.catalog
    if "K2_DLQ_DIR" in os.environ:
        variables["K2_DLQ_DIR"] = str(settings.dead_letter_folder)
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _speed(outcome: Outcome) -> list[str]:
    speed, messages, job_seconds = outcome.speed, outcome.plan.messages, sum(outcome.run_seconds)
    rate = (
        "Steady rate: none, the job committed nothing."
        if speed.messages_per_second is None
        else f"Steady rate: {speed.messages_per_second:,.0f} messages a second ({speed.messages:,} in "
        f"{speed.seconds:.1f} s), from the first read to the last commit of the longer run."
    )
    starts = " and ".join(f"{seconds:.1f}" for seconds in speed.start_seconds)
    in_all = (
        f"With start-up: {messages / job_seconds:,.0f} messages a second ({messages:,} in {job_seconds:.1f} s), in "
        f"both runs of the job, which took {starts} s to start."
    )
    compiled = (
        f"Compilation of the rules: {speed.compile_seconds:.1f} s, cached for later starts."
        if speed.compile_seconds
        else "Compilation of the rules: none, they were in the cache."
    )
    return [rate, in_all, compiled]


def _lines(outcome: Outcome) -> list[str]:
    plan, settings = outcome.plan, outcome.settings
    first, second = outcome.run_seconds
    command = f"{_environment(outcome)} {_k2()}"
    return [
        *_speed(outcome),
        f"Killed by SIGKILL at {outcome.killed_at:,} of {plan.messages:,} messages, and started again.",
        f"Total: {outcome.seconds:.0f} s; the job ran {first:.1f} s until the kill, and {second:.1f} s after it.",
        f"Tables: {settings.data_dir / 'warehouse'}",
        f"Dead letters: {settings.dead_letter_folder}",
        "[bold green]All that was injected was found, and nothing else.[/]"
        if outcome.ok
        else "[bold red]What was found differs from what was injected.[/]",
        f"Look further: {command} gaps",
        f"Or in a browser: {command} serve",
    ]

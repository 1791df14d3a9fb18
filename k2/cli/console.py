"""What every command says, and how: results on stdout, all else on stderr, errors as one sentence and a code."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup

from k2.cli.interrupt import INTERRUPT
from k2.model.errors import K2Error, SettingsError

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Command", "Commands", "Json", "progress", "say_json", "show_record", "to_json"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
"""The option that every command with a result takes."""


class Command(NamedTuple):
    """Where a sub-command lies: imported when it is called for, so that `k2 --help` answers at once."""

    module: str
    name: str
    """A function, or a Typer app of further sub-commands."""
    help: str
    """One line for the list."""

    def load(self, called: str) -> Any:
        """Import it.

        Raises:
            SettingsError: PyIceberg cannot read its configuration, which it does when it is imported.
        """
        found = getattr(_imported(self.module), self.name)
        INTERRUPT.begin()
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(called)(found)
        return typer.main.get_command(single)


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception:
        from pyiceberg.utils.config import Config  # noqa: PLC0415  `k2 --help` does without

        try:
            Config()
        except Exception as error:
            what = " ".join(str(error).split())
            raise SettingsError(f"PyIceberg's configuration cannot be read: {what}") from error
        raise


class Commands(TyperGroup):
    """The sub-commands of `k2`, by name; ends a `K2Error` with its sentence on stderr and its exit code."""

    table: ClassVar[Mapping[str, Command]] = {}

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except K2Error as error:
            for text in (str(error), *getattr(error, "__notes__", ())):
                typer.echo(f"k2: {text}", err=True)
            raise typer.Exit(error.exit_code) from None

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """Return their names in the table's order."""
        return [*self.table]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """Return one by name, None where there is none."""
        command = self.table.get(cmd_name)
        return command.load(cmd_name) if command else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  click's signature
        """List them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table.items()])


def to_json(value: object) -> str:
    """Return a value as JSON: decimals as strings with all their digits, times as RFC 3339, NumPy's as Python's.

    >>> from decimal import Decimal
    >>> to_json({"price": Decimal("61837.63000000"), "gaps": []})
    '{"price":"61837.63000000","gaps":[]}'
    """
    import msgspec  # noqa: PLC0415  `k2 --help` does without

    return msgspec.json.encode(value, enc_hook=_plain).decode()


def _plain(value: Any) -> object:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, PurePath):
        # A name that is no text still has a place in JSON.
        return os.fsencode(value).decode(errors="replace")
    return str(value)


def say_json(value: object) -> None:
    """Print a value as one line of JSON, in UTF-8 whatever the terminal's own encoding."""
    typer.echo(to_json(value).encode())


def show_record(record: Mapping[str, object], *, as_json: bool) -> None:
    """Print one result: a JSON document, or its fields one below the other."""
    if as_json:
        say_json(dict(record))
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def _text(value: object) -> str:
    """Return a value as a person reads it; one that is absent is a dash, and none steers the terminal."""
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in str(value))


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator["Progress"]:
    """Yield a progress bar on stderr, with one task (`tasks[0]`); it shows on a terminal alone."""
    from rich.console import Console  # noqa: PLC0415  `k2 --help` does without
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415  as above

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        bar.add_task(description, total=total)
        yield bar

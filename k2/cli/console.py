"""Console conventions of all commands: results on stdout, the rest on stderr, errors as a sentence and an exit code."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from k2.cli.interrupt import INTERRUPT
from k2.model.errors import K2Error, SettingsError
from k2.model.wording import closest

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Command", "Commands", "Json", "print_json", "print_record", "progress", "to_json"]

Json = Annotated[bool, typer.Option("--json", help="Print only JSON on stdout.")]
"""Option of every command that prints a result."""


_PLAIN: Final = {
    "Value error, ": "",
    "Input should be a valid": "not a valid",
    "Input should be": "must be",
    ", unable to parse string as an integer": "",
    ", unable to parse string as a number": "",
}
"""Words of pydantic in Typer's messages, and plainer ones."""


class Command(NamedTuple):
    """Location of a sub-command, which is imported on demand so that `k2 --help` is fast."""

    module: str
    name: str
    """Name of a function, or of a Typer app with further sub-commands."""
    help: str
    """One line for the list of commands."""
    extra: str | None = None
    """Extra of the distribution that the command needs; None if it needs none."""
    needs: str = ""
    """Package of that extra, by which its absence is noticed."""

    def load(self, called: str) -> Any:
        """Import the command and return it as a click command.

        Raises:
            SettingsError: If the command's extra is not installed, or if PyIceberg's configuration, which is read on
                import, cannot be read.
        """
        if self.extra is not None and find_spec(self.needs) is None:
            raise SettingsError(
                f"`k2 {called}` is not installed: it needs the extra {self.extra!r}; "
                f"run `pip install 'k2-trades[{self.extra}]'`"
            )
        found = getattr(_import_command(self.module), self.name)
        INTERRUPT.begin()
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None
            return typer.main.get_group(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(called)(found)
        return typer.main.get_command(single)


def _import_command(module: str) -> ModuleType:
    try:
        return import_module(module)
    except Exception:
        from pyiceberg.utils.config import Config  # noqa: PLC0415  `k2 --help` does not need it

        try:
            Config()
        except Exception as error:
            detail = " ".join(str(error).split())
            raise SettingsError(f"PyIceberg's configuration cannot be read: {detail}") from error
        raise


class Commands(TyperGroup):
    """Group of sub-commands, by name.

    A `K2Error`, and a wrong option or argument, becomes one sentence on stderr and its exit code.
    """

    table: ClassVar[Mapping[str, Command]] = {}

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the options before the command."""
        with _usage_as_sentence():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the named command."""
        try:
            with _usage_as_sentence():
                return super().invoke(ctx)
        except K2Error as error:
            for text in (str(error), *getattr(error, "__notes__", ())):
                typer.echo(f"k2: {text}", err=True)
            raise typer.Exit(error.exit_code) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the named command; the error for an unknown one names the most similar."""
        try:
            return super().resolve_command(ctx, args)
        except TyperException as error:
            if close := closest(args[0], self.table):
                error.message = f"{error.message.rstrip('.')}; did you mean {close!r}?"
            raise

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names of the commands in the order of the table."""
        return [*self.table]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002  click's signature
        """Return the command of this name, or None if there is no such command."""
        command = self.table.get(cmd_name)
        return command.load(cmd_name) if command else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table.items()])


@contextmanager
def _usage_as_sentence() -> Iterator[None]:
    """Print a wrong option or argument as one sentence that names the help to read; the exit code is 2."""
    try:
        yield
    except TyperException as error:
        context = getattr(error, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        sentence, help_of = _usage_sentence(error), "k2" if context is None else context.command_path
        typer.echo(f"k2: {sentence}{' See' if sentence.endswith('?') else '; see'} `{help_of} --help`", err=True)
        raise typer.Exit(error.exit_code) from None


def _usage_sentence(error: TyperException) -> str:
    """Return what is wrong; for an unknown option, also a similar one, or the setting of that name."""
    option = str(getattr(error, "option_name", ""))
    if error.message.startswith("No such option"):
        import difflib  # noqa: PLC0415  only an error needs it

        similar = difflib.get_close_matches(option, getattr(error, "possibilities", None) or [], cutoff=0.75)
        if similar:
            return f"{error.message}; did you mean {' or '.join(similar)}?"
        from k2.ops.settings import PREFIX, Settings  # noqa: PLC0415  `k2 --help` does not need it

        setting = option.lstrip("-").replace("-", "_").lower()
        if setting in Settings.model_fields:
            return f"{error.message}; set {PREFIX}{setting.upper()} in the environment"
        if getattr(getattr(error, "ctx", None), "parent", None) is None:
            return f"{error.message}; options follow the command"
    message = error.format_message().rstrip(".")
    if message.startswith("Got unexpected extra argument"):
        return f"{message}; put an argument that contains spaces in quotes"
    for words, plain in _PLAIN.items():
        message = message.replace(words, plain)
    return message


def to_json(value: object) -> str:
    """Return a value as JSON: decimals as strings with all digits, times as RFC 3339, NumPy scalars as Python's.

    >>> from decimal import Decimal
    >>> to_json({"price": Decimal("61837.63000000"), "gaps": []})
    '{"price":"61837.63000000","gaps":[]}'
    """
    import msgspec  # noqa: PLC0415  `k2 --help` does not need it

    return msgspec.json.encode(value, enc_hook=_to_plain).decode()


def _to_plain(value: Any) -> object:
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, PurePath):
        # A file name may not be valid UTF-8.
        return os.fsencode(value).decode(errors="replace")
    return str(value)


def print_json(value: object) -> None:
    """Print a value as one line of JSON, in UTF-8 regardless of the terminal's encoding."""
    typer.echo(to_json(value).encode())


def print_record(record: Mapping[str, object], *, as_json: bool) -> None:
    """Print a result as a JSON document, or as one field per line."""
    if as_json:
        print_json(dict(record))
        return
    width = max(map(len, record), default=0)
    for name, value in record.items():
        typer.echo(f"{name.replace('_', ' '):<{width}}  {_format_value(value)}")


def _format_value(value: object) -> str:
    """Return a value as text for people: a dash for None, and control characters escaped."""
    if value is None:
        return "-"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_value, value))
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(value))


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator["Progress"]:
    """Yield a progress bar on stderr with one task (`tasks[0]`); it is shown only on a terminal."""
    from rich.console import Console  # noqa: PLC0415  `k2 --help` does not need it
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

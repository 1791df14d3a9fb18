"""Command `k2 demo`: options and exit codes."""

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from demo.faults import MESSAGES_MAX, MESSAGES_MIN
from demo.report import print_outcome
from demo.run import Plan, run_demo
from k2.cli.console import Json
from k2.cli.options import parse_path
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings

__all__ = ["demo", "fresh_folder"]


def demo(
    messages: Annotated[
        int, typer.Option(min=MESSAGES_MIN, max=MESSAGES_MAX, help="Number of messages to publish.")
    ] = 1_000_000,
    symbols: Annotated[int, typer.Option(min=1, max=100_000, help="Number of symbols.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market and the faults.")] = 7,
    *,
    as_json: Json = False,
    data_dir: Annotated[
        Path | None, typer.Option(parser=parse_path, help="A new or empty folder (default: data/demo-N).")
    ] = None,
) -> None:
    """Publish a market with known faults to an embedded broker, capture it, and compare the results.

    The job is killed once during the capture. The exit code is 1 if a result differs from what was injected.
    """
    folder = fresh_folder(data_dir)
    former = signal.signal(signal.SIGTERM, _exit)
    try:
        outcome = run_demo(Plan(folder, messages, symbols, seed))
    except (KeyboardInterrupt, SystemExit) as stopped:
        typer.echo(f"k2: the demo was stopped; what it wrote is kept in {folder}", err=True)
        raise typer.Exit(130 if isinstance(stopped, KeyboardInterrupt) else _exit_code(stopped)) from None
    except Exception as error:
        error.add_note(f"what the demo wrote is kept in {folder}")
        raise
    finally:
        signal.signal(signal.SIGTERM, former)
    print_outcome(outcome, as_json=as_json)
    raise typer.Exit(0 if outcome.ok else 1)


def fresh_folder(chosen: Path | None) -> Path:
    """Create the folder of the demo: `chosen`, or the first free of `demo-1`, `demo-2`, ... in the data folder.

    Raises:
        SettingsError: the chosen folder is not empty, or a folder cannot be created.
    """
    try:
        if chosen is not None:
            chosen.mkdir(parents=True, exist_ok=True)
            if any(chosen.iterdir()):
                raise SettingsError(f"--data-dir {chosen}: is not empty; use a new folder")
            return chosen.absolute()
        return _next_folder(read_settings().data_dir.absolute())
    except OSError as error:
        raise SettingsError(f"cannot create the folder of the demo: {error.filename}: {error.strerror}") from None


def _next_folder(parent: Path) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / f"demo-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _exit_code(stopped: SystemExit) -> int:
    return stopped.code if isinstance(stopped.code, int) else 1


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)

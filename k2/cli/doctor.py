"""`k2 doctor`: check everything that the job depends on, and say what to fix."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from k2.cli.cluster import Addresses, ProcessId, check_cluster_options
from k2.cli.console import Json, print_json
from k2.cli.options import parse_path
from k2.cli.table_output import printable
from k2.doctor.checks import all_checks, read_or_error
from k2.doctor.findings import Finding, run_checks
from k2.doctor.recovery import Start
from k2.doctor.secrets import hiding, secrets_of
from k2.model.errors import SettingsError

__all__ = ["doctor"]


def doctor(
    *,
    recovery_directory: Annotated[
        Path | None,
        typer.Option(
            "--recovery-directory",
            "-r",
            parser=parse_path,
            metavar="DIR",
            envvar="BYTEWAX_RECOVERY_DIRECTORY",
            help="Recovery store to check (default: recovery in K2_DATA_DIR, if there is one).",
        ),
    ] = None,
    process_id: ProcessId = None,
    addresses: Addresses = None,
    as_json: Json = False,
) -> None:
    """Check settings, broker, topics, catalog, tables, folders, recovery store and machine; change nothing.

    Give the options of `k2 run`, so that the same recovery store is checked: a process of a cluster may have a part of
    it, or none.

    Each line says ok, warning, failed or unknown, and what to fix. Exit with code 1 if a check failed, with 2 if a
    setting is invalid, and with 3 if the broker or the catalog does not answer.
    """
    process = None if process_id is None else check_cluster_options(process_id, addresses).process
    # A file of addresses is what the pods of a StatefulSet have.
    is_cluster = ";" in (addresses or "") or "BYTEWAX_HOSTFILE_PATH" in os.environ
    start = Start(recovery_directory, is_cluster, process)
    settings = read_or_error()
    secrets = frozenset[str]() if isinstance(settings, SettingsError) else secrets_of(settings)
    hide, found = hiding(secrets), list[Finding]()

    def report(finding: Finding) -> None:
        shown = Finding(finding.check, finding.state, hide(" ".join(finding.text.split())))
        found.append(shown)
        if not as_json:
            typer.echo(printable(f"{shown.state:<8} {shown.check}: {shown.text}"))

    code, is_ended = run_checks(all_checks(settings, start), report)
    if as_json:
        print_json(found)
    if not is_ended:
        _exit_at_once(code)
    raise typer.Exit(code)


def _exit_at_once(code: int, end: Callable[[int], object] = os._exit) -> None:
    """End the process without waiting for checks that hang, some of which are in a library's threads."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    end(code)

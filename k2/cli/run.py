"""`k2 run`: check everything that a start of the job needs, and become the job, or supervise it."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

import k2
from k2.cli.cluster import Addresses, ProcessId, check_cluster_options
from k2.model.errors import K2Error, SettingsError
from k2.ops.restart_budget import RestartBudget
from k2.ops.retry import RESTART
from k2.ops.signals import exit_on_signals_until
from k2.ops.supervision import report_command, report_ending

__all__ = ["run"]

FLOW: Final = Path(k2.__path__[0]).parent / "flows" / "trades.py"
"""The dataflow that is installed with this command. Bytewax takes a path, so no folder `flows` elsewhere is run."""
RESTART_WINDOW_SECONDS: Final = 3600
RestartsMax = Annotated[
    int | None,
    typer.Option(
        "--restarts-max",
        min=1,
        show_default=str(RESTART.attempts_max),
        help="With --supervise: restarts within --restart-window, not counting those because a service did not answer.",
    ),
]
RestartWindow = Annotated[
    int | None,
    typer.Option(
        "--restart-window",
        min=1,
        show_default=str(RESTART_WINDOW_SECONDS),
        help="With --supervise: seconds in which restarts are counted.",
    ),
]
RecoveryDirectory = Annotated[
    str | None,
    typer.Option(
        "--recovery-directory",
        "-r",
        metavar="DIR",
        envvar="BYTEWAX_RECOVERY_DIRECTORY",
        help="Recovery store; created if there is none (default: recovery in K2_DATA_DIR).",
    ),
]


def run(
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, envvar="BYTEWAX_WORKERS_PER_PROCESS", help="Worker threads.")
    ] = 1,
    process_id: ProcessId = None,
    addresses: Addresses = None,
    recovery_directory: RecoveryDirectory = None,
    snapshot_interval: Annotated[
        int,
        typer.Option(
            "--snapshot-interval", "-s", min=0, envvar="BYTEWAX_SNAPSHOT_INTERVAL", help="Seconds between commits."
        ),
    ] = 10,
    backup_interval: Annotated[
        int,
        typer.Option(
            "--backup-interval",
            "-b",
            min=0,
            envvar="BYTEWAX_RECOVERY_BACKUP_INTERVAL",
            help="Seconds to keep old snapshots; `k2 recovery backup` needs none.",
        ),
    ] = 0,
    *,
    supervise: Annotated[
        bool, typer.Option("--supervise", help="Stay as the parent of the job, and start it again when it fails.")
    ] = False,
    restarts_max: RestartsMax = None,
    restart_window: RestartWindow = None,
) -> None:
    """Run the job: trades from Kafka to Iceberg.

    It checks settings, catalog, topics and recovery store, and then becomes
    `python -m bytewax.run flows.trades`: the same process, signals and exit codes.
    With --supervise it stays as the parent, and starts the job again when it ends with an error that may pass.

    Settings are environment variables, listed in the README: K2_BOOTSTRAP_SERVERS, K2_TOPICS, K2_DATA_DIR and others.
    """
    cluster = check_cluster_options(process_id, addresses)
    if recovery_directory is not None and not recovery_directory:
        raise SettingsError("-r is empty; name the folder of the recovery store, or leave -r out")
    options = ["-s", str(snapshot_interval), "-b", str(backup_interval), *cluster.arguments]
    budget = _budget(restarts_max, restart_window, supervise=supervise)
    if supervise:
        store = [] if recovery_directory is None else ["-r", recovery_directory]
        raise typer.Exit(_supervise(["-w", str(workers), *store, *options], budget))
    stop_exits = exit_on_signals_until()
    # This program is replaced before there is garbage worth looking for.
    gc.disable()
    # After that, because these imports take seconds, and the threads that they start must block signals too.
    from k2.cli.start_checks import check_start  # noqa: PLC0415

    try:
        folder = check_start(recovery_directory, cluster.process or 0, cluster.processes, workers)
    except K2Error as error:
        report_ending(error)
        raise
    stop_exits()
    _become_job([str(FLOW), "-w", str(workers), "-r", str(folder), *options])


def _budget(restarts_max: int | None, restart_window: int | None, *, supervise: bool) -> RestartBudget:
    """Return the budget of restarts.

    Raises:
        SettingsError: an option of the budget is given, and there is no supervisor that would keep to it.
    """
    options = {"--restarts-max": restarts_max, "--restart-window": restart_window}
    given = [name for name, value in options.items() if value is not None]
    if given and not supervise:
        raise SettingsError(f"{given[0]} is of --supervise, which is missing; add it, or leave {given[0]} out")
    return RestartBudget(restarts_max or RESTART.attempts_max, restart_window or RESTART_WINDOW_SECONDS)


def _supervise(options: list[str], budget: RestartBudget) -> int:
    """Run this command without `--supervise` as a child process, again if it fails; return the exit code to end with.

    Once its checks have passed, it is the job that is started again, which makes the same checks but for the folder of
    the recovery store.
    """
    from k2.ops.supervisor import Supervisor  # noqa: PLC0415  only this needs it

    return Supervisor([sys.executable, "-P", "-m", "k2.cli", "run", *options], budget).run()


def _become_job(arguments: list[str]) -> NoReturn:
    """Replace this program by the job, under the same process id.

    SIGINT and SIGTERM are blocked until the job has its own handlers. One that arrives meanwhile is not lost, even if
    this is process 1, which ignores signals without a handler.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # -P: no folder `bytewax` in the working folder takes the place of the installed one.
    command = [sys.executable, "-P", "-m", "bytewax.run", *arguments]
    report_command(command)
    os.execv(sys.executable, command)  # noqa: S606  no shell is wanted

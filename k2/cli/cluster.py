"""Options of a process of a cluster: its number, and the addresses of all."""

import os
from typing import Annotated, Final, NamedTuple

import typer

from k2.model.errors import SettingsError

__all__ = ["Addresses", "ClusterOptions", "ProcessId", "check_cluster_options"]

_POD: Final = ("BYTEWAX_POD_NAME", "BYTEWAX_STATEFULSET_NAME")
"""Variables from which Bytewax derives the number of a process if it is not given."""
ProcessId = Annotated[
    int | None,
    typer.Option(
        "--process-id", "-i", min=0, envvar="BYTEWAX_PROCESS_ID", help="Number of this process, from 0, in a cluster."
    ),
]
Addresses = Annotated[
    str | None,
    typer.Option(
        "--addresses", "-a", envvar="BYTEWAX_ADDRESSES", help='Addresses of all processes: "HOST:PORT;HOST:PORT".'
    ),
]


class ClusterOptions(NamedTuple):
    """The options of this process among those that run the job together, checked."""

    process: int | None
    """None if the job is one process."""
    addresses: str | None
    """HOST:PORT of all processes, separated by `;`; None if there is one, or if a file has them."""
    processes: int
    """Their number; if a file has the addresses, only that up to this process is known."""

    @property
    def arguments(self) -> list[str]:
        """The arguments of Bytewax."""
        process = [] if self.process is None else ["-i", str(self.process)]
        return process + ([] if self.addresses is None else ["-a", self.addresses])


def check_cluster_options(process: int | None, addresses: str | None) -> ClusterOptions:
    """Return the checked options; the number of a pod of a StatefulSet is that of its process.

    Raises:
        SettingsError: one of number and addresses is missing, or they do not match.
    """
    if process is None:
        process = _pod_number()
    if process is None and addresses is None:
        return ClusterOptions(None, None, 1)
    if process is None:
        raise SettingsError("-a names the processes of a cluster, but -i is missing; give each process its number")
    if addresses is None:
        if "BYTEWAX_HOSTFILE_PATH" in os.environ:
            return ClusterOptions(process, None, process + 1)
        raise SettingsError(f'-i {process} needs the addresses of all processes; add -a "HOST:PORT;HOST:PORT"')
    names = [name.strip() for name in addresses.split(";")]
    for name in names:
        host, _, port = name.rpartition(":")
        if not host or not port.isdecimal():
            raise SettingsError(f"-a {addresses!r}: {name!r} is not HOST:PORT; separate addresses by ';'")
    if process >= len(names):
        count = "1 process" if len(names) == 1 else f"{len(names)} processes"
        raise SettingsError(
            f"-i {process}, but -a names {count}, numbered from 0; put the addresses in quotes, because the shell ends "
            "a command at ';'"
        )
    return ClusterOptions(process, ";".join(names), len(names))


def _pod_number() -> int | None:
    """Return the number of a pod of a StatefulSet, as Bytewax reads it; None if the variables are not set."""
    pod, owner = (os.environ.get(name) for name in _POD)
    if pod is None or owner is None:
        return None
    number = pod.removeprefix(f"{owner}-")
    if not number.isdecimal():
        raise SettingsError(f"{_POD[0]}={pod!r} is not {_POD[1]} and a number; set them to the pod's own, or use -i")
    return int(number)

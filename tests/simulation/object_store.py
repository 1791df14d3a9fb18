"""Dead letters of a simulation in an object store: a folder in its place, and the faults at its failpoints."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

from k2.ops.failpoints import Name
from k2.storage.dead_letters import folders, object_log
from k2.storage.dead_letters.object_folder import ObjectFolder
from tests.simulation.plan import Plan

__all__ = ["address_of", "replace_object_store", "with_object_faults"]

WHOLE_BYTES_MIN: Final = 2_000
"""So that a simulation has objects that are not written again; with its few dead letters it would have none."""
_SCHEME: Final = "s3:/"
_FAILPOINTS: Final[Mapping[str, Name]] = {
    "letters.append": "objects.write",
    "letters.appended": "objects.written",
    "letters.rotate": "objects.remove",
    "letters.fsync": "objects.write",
    "letters.fsynced": "objects.written",
    "letters.cut": "objects.remove",
    "letters.truncated": "objects.remove",
}


def address_of(folder: Path) -> str:
    """Return the address that stands for a folder."""
    return f"{_SCHEME}{folder}"


def replace_object_store() -> None:
    """Open folders of this machine in place of an object store, in this process and those that it forks."""
    folders.open_object_folder = _open_folder  # type: ignore[attr-defined]
    object_log.WHOLE_BYTES_MIN = WHOLE_BYTES_MIN  # type: ignore[misc]


def with_object_faults(plan: Plan) -> Plan:
    """Return the plan with the faults at failpoints of files at those of objects."""
    lives = (
        replace(
            life,
            faults=tuple(fault._replace(name=_FAILPOINTS.get(fault.name or "", fault.name)) for fault in life.faults),
        )
        for life in plan.lives
    )
    return replace(plan, lives=tuple(lives))


def _open_folder(address: str, _properties: Mapping[str, str]) -> ObjectFolder:
    folder = address.removeprefix(_SCHEME)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return ObjectFolder(address, SubTreeFileSystem(folder, LocalFileSystem()), "")

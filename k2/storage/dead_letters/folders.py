"""Where the dead letters are by the settings: in a folder on this machine, or under an address in an object store.

Everything else has one of two adapters, whose interfaces are `DeadLetterFolder` for readers and `DeadLetterLog` for a
writer.
"""

from collections.abc import Callable, Mapping

from k2.ops.settings import Settings
from k2.storage.catalog import catalog_properties
from k2.storage.dead_letters.files import DeadLetterFolder, Position
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.local_log import LocalLog
from k2.storage.dead_letters.lock import check_folder, check_free
from k2.storage.dead_letters.object_folder import ObjectFolder, open_object_folder
from k2.storage.dead_letters.object_log import ObjectLog
from k2.storage.dead_letters.queue import DeadLetterLog
from k2.storage.dead_letters.replay_journal import ReplayJournal

__all__ = [
    "check_dead_letters",
    "check_no_other_writer",
    "dead_letter_folder",
    "dead_letter_log",
    "object_folder",
    "replay_journal",
]


def dead_letter_folder(settings: Settings) -> DeadLetterFolder:
    """Return the folder to read from.

    Raises:
        SettingsError: the address or a property of the catalog is invalid.
    """
    return object_folder(settings) or LocalFolder(settings.dead_letter_folder)


def check_dead_letters(settings: Settings) -> None:
    """Check that dead letters can be written, before the job runs; a folder on this machine is created.

    Raises:
        SettingsError: they cannot be written.
        UnreachableError: the object store does not answer.
    """
    folder = object_folder(settings)
    if folder is None:
        check_folder(settings.dead_letter_folder)
    else:
        folder.check()


def check_no_other_writer(settings: Settings, prefix: str) -> None:
    """Check that no process on this machine holds the series whose names start with `prefix`.

    Objects need no lock: every start writes a series of its own.

    Raises:
        SettingsError: the folder cannot be created or written.
        StateError: another process holds them.
    """
    if settings.dead_letter_address is None:
        check_free(settings.dead_letter_folder, prefix)


def dead_letter_log(
    settings: Settings,
    prefix: str,
    recorded: Mapping[str, Position],
    settle: Callable[[], Mapping[str, Position]] | None = None,
) -> DeadLetterLog:
    """Return the log of the writer whose series have names that start with `prefix`, after the recorded positions.

    Raises:
        SettingsError: dead letters cannot be written there.
        StateError: dead letters that the table counts are missing, or another process writes them.
        UnreachableError: the object store does not answer.
    """
    folder, bytes_max = object_folder(settings), settings.dlq_file_bytes_max
    if folder is None:
        return LocalLog(settings.dead_letter_folder, prefix, recorded, bytes_max, settle)
    return ObjectLog(folder, prefix, recorded, bytes_max)


def replay_journal(settings: Settings) -> ReplayJournal:
    """Return the journal of the replays of this namespace, which is next to the dead letters.

    Raises:
        SettingsError: the address or a property of the catalog is invalid.
    """
    return ReplayJournal(object_folder(settings) or LocalFolder(settings.dead_letter_folder), settings.namespace)


def object_folder(settings: Settings) -> ObjectFolder | None:
    """Return the address in an object store; None if the dead letters are in a folder on this machine.

    Raises:
        SettingsError: the address or a property of the catalog is invalid.
    """
    if settings.dead_letter_address is None:
        return None
    return open_object_folder(settings.dead_letter_address, catalog_properties(settings))

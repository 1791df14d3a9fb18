"""The user's own tables (`K2_VENUES`): files, or folders of files, that each describe a venue."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from k2.model.errors import SettingsError
from k2.venues.table_files import TableFile, line_of, read_table

__all__ = ["read_user_table", "read_user_tables"]


def read_user_tables(text: str, taken: frozenset[str], builtin: Mapping[str, Path]) -> dict[str, TableFile]:
    """Return the tables of a setting by venue.

    Args:
        text: the value of `K2_VENUES`: files and folders, separated by commas.
        taken: the names of the built-in venues, which a table may have only if it says `replaces = true`.
        builtin: the files of the built-in tables by venue, which a table may extend.

    Raises:
        SettingsError: a file or folder is missing, or a table is invalid; the sentence has file, line and key.
    """
    paths = [path for part in text.split(",") if part.strip() for path in _files(Path(part.strip()))]
    named = {name: path for path in paths if (name := _declared_name(path)) is not None}
    tables: dict[str, TableFile] = {}
    for path in paths:
        file = read_user_table(path, taken, {**builtin, **named}, builtin)
        name = file.table.name
        if name in tables:
            raise SettingsError(f"{path} and {tables[name].path} are both tables of venue {name!r}; remove one")
        tables[name] = file
    return tables


def read_user_table(
    path: Path, taken: frozenset[str], known: Mapping[str, Path], builtin: Mapping[str, Path]
) -> TableFile:
    """Return one table of the user, which may extend those of `known`; one that replaces a venue may extend that.

    Raises:
        SettingsError: it cannot be read, is invalid, or has the name of a built-in venue.
    """

    def find(name: str) -> Path | None:
        found = known.get(name)
        return builtin.get(name) if found == path else found

    file = read_table(path, find)
    name = file.table.name
    if name in taken and not file.table.replaces:
        raise SettingsError(
            f"{_line(path, 'name')}: name: {name!r} is a built-in venue; choose another name, or add replaces = true"
        )
    if name not in taken and file.table.replaces:
        raise SettingsError(f"{_line(path, 'replaces')}: replaces: there is no built-in venue {name!r}; remove it")
    view_of = file.table.view_of
    if view_of is not None and view_of not in taken and view_of not in known:
        raise SettingsError(
            f"{_line(path, 'view_of')}: view_of: there is no venue {view_of!r}; see `k2 venues list` for their names"
        )
    return file


def _line(path: Path, key: str) -> str:
    line = line_of(path.read_text(encoding="utf-8"), key)
    return f"{path}" if line is None else f"{path} line {line}"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        tables = sorted(path.glob("*.toml"))
        if not tables:
            raise SettingsError(f"K2_VENUES names the folder {path}, which has no table; a table is a file *.toml")
        return tables
    if not path.exists():
        raise SettingsError(f"K2_VENUES names {path}, which does not exist; name a table, or a folder of tables")
    return [path]


def _declared_name(path: Path) -> str | None:
    """Return the name in a file; None if the file has none, which is an error when it is read."""
    try:
        name = tomllib.loads(path.read_text(encoding="utf-8")).get("name")
    except (OSError, ValueError):
        return None
    return name if isinstance(name, str) else None

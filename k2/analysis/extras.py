"""Optional packages, each installed by an extra of the distribution."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from k2.model.errors import K2Error

__all__ = ["MissingExtraError", "import_extra"]


class MissingExtraError(K2Error, ImportError):
    """An optional package is not installed."""

    exit_code = 2


def import_extra(package: str, extra: str, needed_by: str) -> ModuleType:
    """Import a package of an extra.

    Raises:
        MissingExtraError: it is not installed; the message names the extra.
    """
    if find_spec(package) is None:
        raise MissingExtraError(
            f"{needed_by} needs {package}, which is not installed: run `pip install 'k2-trades[{extra}]'`"
        )
    return import_module(package)

"""The installed version of this package."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["installed_version"]


def installed_version() -> str | None:
    """Return the version; None if the package runs from a checkout that is not installed."""
    try:
        return version("k2-trades")
    except PackageNotFoundError:
        return None

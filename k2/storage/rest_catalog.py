"""PyIceberg's REST catalog, with tables whose vended storage credentials are renewed before they expire."""

from functools import partial
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from k2.storage.vended_credentials import with_renewed_credentials

__all__ = ["RenewingRestCatalog"]


class RenewingRestCatalog(RestCatalog):
    """A REST catalog, whose tables can be used for longer than the credentials that it vends are valid."""

    def load_table(self, identifier: str | Identifier) -> Table:
        """Load a table."""
        return self._with_renewal(super().load_table(identifier))

    def create_table(self, *args: Any, **kwargs: Any) -> Table:
        """Create a table, with PyIceberg's arguments."""
        return self._with_renewal(super().create_table(*args, **kwargs))

    def _with_renewal(self, table: Table) -> Table:
        return with_renewed_credentials(table, partial(super().load_table, table.name()))

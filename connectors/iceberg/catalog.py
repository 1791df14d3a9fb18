"""The catalog, as the query module opens it too."""

from runtime.catalog import TRANSIENT, catalog_exists, find_table, open_catalog

__all__ = ["TRANSIENT", "catalog_exists", "find_table", "open_catalog"]

"""The catalog, as the query module opens it too."""

from runtime.catalog import TRANSIENT, catalog_exists, find_table, open_catalog
from runtime.catalog_faults import refusals_named

__all__ = ["TRANSIENT", "catalog_exists", "find_table", "open_catalog", "refusals_named"]

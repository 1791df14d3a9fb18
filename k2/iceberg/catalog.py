"""The catalog, as the query module opens it too."""

from k2.storage.catalog import TRANSIENT, catalog_exists, find_table, open_catalog
from k2.storage.catalog_errors import translate_refusals

__all__ = ["TRANSIENT", "catalog_exists", "find_table", "open_catalog", "translate_refusals"]

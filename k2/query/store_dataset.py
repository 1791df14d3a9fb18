"""A dataset of Parquet files in a store, which DuckDB scans without holding Python's lock while files are opened.

PyArrow's `Scanner.to_reader`, which DuckDB calls for a dataset, keeps the lock (the GIL) while it opens the first
files. If the file system is written in Python, as the one that renews vended credentials is, a thread of Arrow that
opens the next file waits for the lock, and keeps a lock of Arrow's that `to_reader` waits for: the process hangs.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

__all__ = ["StoreDataset"]


class StoreDataset(ds.FileSystemDataset):
    """Parquet files of one schema; columns and filters of a query are pushed down."""

    def __init__(self, paths: Sequence[str], schema: pa.Schema, files: FileSystem) -> None:
        parquet = ds.ParquetFileFormat()
        super().__init__([parquet.make_fragment(path, files) for path in paths], schema, parquet, files)

    def scanner(self, **options: Any) -> "_Scan":  # type: ignore[override]
        """Return a scan of the columns and rows that the options select; DuckDB calls this, and then `to_reader`."""
        return _Scan(super().scanner(**options))


class _Scan:
    """A scan that begins, and goes on, without the lock: `scan_batches` releases it."""

    def __init__(self, scanner: ds.Scanner) -> None:
        self._scanner = scanner

    def to_reader(self) -> pa.RecordBatchReader:
        """Return the batches of the scan."""
        batches = (tagged.record_batch for tagged in self._scanner.scan_batches())
        return pa.RecordBatchReader.from_batches(self._scanner.projected_schema, batches)

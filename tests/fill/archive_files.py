"""Archives in the forms of venues, made from recorded trades by plain scripts, without the code under test."""

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

__all__ = ["BINANCE_HEADER", "binance_day", "checksum", "recorded", "zipped"]

DATA: Final = Path(__file__).parents[1] / "data"
BINANCE_HEADER: Final = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"


def recorded(file: str) -> list[bytes]:
    """Return the messages of a recording."""
    return gzip.decompress((DATA / f"{file}.ndjson.gz").read_bytes()).splitlines()


def zipped(name: str, text: str) -> bytes:
    """Return a zip of one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return packed.getvalue()


def binance_day(folder: Path, messages: Iterable[bytes], name: str = "BTCUSDT-trades-2024-08-08.zip") -> Path:
    """Write Binance's daily file of spot trades, from messages of @trade, and return its path."""
    rows = map(json.loads, messages)
    lines = [BINANCE_HEADER, *(f"{row['t']},{row['p']},{row['q']},0.1,{row['T']},{row['m']},True" for row in rows)]
    path = folder / name
    path.write_bytes(zipped(name.replace(".zip", ".csv"), "\n".join(lines) + "\n"))
    return path


def checksum(path: Path) -> Path:
    """Write the file's `.CHECKSUM`, as Binance publishes it, and return its path."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    written = path.with_name(f"{path.name}.CHECKSUM")
    written.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    return written

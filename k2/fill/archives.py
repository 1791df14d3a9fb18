"""Read a venue's archive, or its REST answer, as columns of trades: values as texts, digit by digit as they were."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from k2.fill.forms import Form, recognise_answer, recognise_csv, rows_of
from k2.model.decimals import spell_decimal
from k2.model.errors import K2Error, SettingsError, first_line
from k2.model.reasons import RejectedError, SkippedError
from k2.model.times import MILLISECONDS_END
from k2.model.trade import SIDES, Trade
from k2.venues.venue import Venue

__all__ = [
    "CHECKSUM_SUFFIX",
    "TRADES",
    "Archive",
    "ArchiveError",
    "Names",
    "has_sum",
    "read_answer",
    "read_archive",
    "read_messages",
]

ZIP_MAGIC: Final = b"PK\x03\x04"
GZIP_MAGIC: Final = b"\x1f\x8b"
JSON_BEGINNINGS: Final = (b"[", b"{")
CHECKSUM_SUFFIX: Final = ".CHECKSUM"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
FIRST_LINE_BYTES_MAX: Final = 65_536
EXPANSION_MAX: Final = 100
"""How many times its size a file may be unpacked: trades as text take several times as much as packed."""
UNPACKED_BYTES_MIN: Final = 64 * 1024 * 1024
"""Up to this size a file may be unpacked in any case."""
EARLIEST_US: Final = 1_230_768_000_000_000
"""2009: no venue with a form had trades before."""

_TEXTS: Final = ("exchange", "symbol", "trade_id", "price", "quantity", "side")
_COLUMNS: Final = (
    "exchange",
    "symbol",
    "trade_id",
    "sequence",
    "first_sequence",
    "price",
    "quantity",
    "side",
    "timestamp",
)
TRADES: Final = pa.schema([pa.field(name, pa.string() if name in _TEXTS else pa.int64()) for name in _COLUMNS])
"""The trades of an archive. Null `trade_id`: the text of the number is the id. Null `sequence`: known by the id alone.
Null `first_sequence`: stands for one number. `timestamp` is in microseconds since the epoch."""
_ANSWER: Final = msgspec.json.Decoder(float_hook=str)


class ArchiveError(K2Error, ValueError):
    """An archive is damaged, or a value in it cannot be read; nothing of it is published."""


class Names(NamedTuple):
    """What the caller says about a file; None if the file says it itself."""

    exchange: str | None = None
    symbol: str | None = None
    """For files that have several: only trades of this symbol."""


class Archive(NamedTuple):
    """The trades of one file or answer."""

    name: str
    sha256: str
    """Of the file as it is, compressed or not."""
    form: str
    trades: pa.Table
    """Columns as `TRADES`, in the order of the file."""
    rejected: int = 0
    """Messages of a capture that its venue does not decode."""


def read_archive(path: Path, form: Form | None = None, names: Names = Names()) -> Archive:  # noqa: B008  immutable
    """Read a CSV file or a REST answer, plain, gzip or zip; a `.CHECKSUM` file next to it is compared.

    Raises:
        SettingsError: the file cannot be opened, its form is unknown, or nothing says its symbol.
        ArchiveError: it is damaged, differs from its checksum, or a value is not what the form says.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    _check_sum(path, data)
    return read_answer(path.name, data, form, names)


def read_answer(name: str, data: bytes, form: Form | None = None, names: Names = Names()) -> Archive:  # noqa: B008
    """Read the bytes of a file, or of an answer, named `name`; raises as `read_archive`."""
    try:
        with _plain(name, data) as plain:
            rows, form = _rows(name, _Measured(name, plain, len(data)), form)
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{name} is damaged: {error}; download it again") from None
    except (pa.ArrowInvalid, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{name} cannot be read: {first_line(error)}; download it again, or name its --form"
        ) from None
    symbol = None if form.symbol else names.symbol or form.symbol_in(name)
    if form.symbol is None and symbol is None:
        raise SettingsError(f"{name} does not say its symbol (form {form.name}); name it with --symbol")
    trades = _normalised(name, rows, form, names, symbol)
    return Archive(name, hashlib.sha256(data).hexdigest(), form.name, trades)


def read_messages(name: str, lines: Iterable[bytes], venue: Venue, names: Names = Names()) -> Archive:  # noqa: B008
    """Read the messages of a capture by its venue; what is no market trade is left out.

    The hash is that of the messages, each with its newline, however the file is compressed.
    """
    trades: list[dict[str, object]] = []
    digest, rejected = hashlib.sha256(), 0
    for line in lines:
        digest.update(line + b"\n")
        if not line.strip():
            continue
        try:
            found = venue.decode(line)
        except SkippedError:
            continue
        except RejectedError:
            rejected += 1
            continue
        trades += [
            _as_row(one, venue, names)
            for one in found
            if isinstance(one, Trade) and one.is_market and not one.is_head and _is_wanted(one, names)
        ]
    return Archive(name, digest.hexdigest(), venue.name, pa.Table.from_pylist(trades, TRADES), rejected)


def _is_wanted(trade: Trade, names: Names) -> bool:
    return names.symbol in {None, trade.symbol}


def _as_row(trade: Trade, venue: Venue, names: Names) -> dict[str, object]:
    number = trade.sequence if venue.is_contiguous else None
    return {
        "exchange": names.exchange or trade.exchange,
        "symbol": trade.symbol,
        "trade_id": None if number is not None and trade.trade_id == str(number) else trade.trade_id,
        "sequence": number,
        "first_sequence": None if number is None or trade.first_sequence == number else trade.first_sequence,
        "price": spell_decimal(trade.price),
        "quantity": spell_decimal(trade.quantity),
        "side": SIDES[trade.side],
        "timestamp": trade.timestamp,
    }


def has_sum(data: bytes, checksum: bytes) -> bool:
    """Return whether the file `checksum` begins with the SHA-256 of `data`, as those of Binance do."""
    return checksum.lower().split()[:1] == [hashlib.sha256(data).hexdigest().encode()]


def _check_sum(path: Path, data: bytes) -> None:
    checksum = path.with_name(path.name + CHECKSUM_SUFFIX)
    if checksum.exists() and not has_sum(data, checksum.read_bytes()):
        raise ArchiveError(f"{path.name} differs from its checksum in {checksum.name}; download both again")


def _plain(name: str, data: bytes) -> "IO[bytes] | gzip.GzipFile":
    if data.startswith(GZIP_MAGIC):
        return gzip.GzipFile(fileobj=io.BytesIO(data))
    if not data.startswith(ZIP_MAGIC):
        return io.BytesIO(data)
    packed = zipfile.ZipFile(io.BytesIO(data))
    members = [member for member in packed.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise ArchiveError(f"{name} contains {len(members)} files; unpack it, and name those to read")
    return packed.open(members[0])


def _rows(name: str, plain: io.RawIOBase, form: Form | None) -> tuple[pa.Table, Form]:
    """Return the rows of a file as columns of text, named as its form names them, and the form."""
    buffered = io.BufferedReader(plain)
    if buffered.peek(3).startswith(BYTE_ORDER_MARK):
        buffered.read(len(BYTE_ORDER_MARK))
    beginning = buffered.peek(1)[:1]
    if form.keys if form is not None else beginning in JSON_BEGINNINGS:
        document = _ANSWER.decode(buffered.read())
        form = form or recognise_answer(name, document)
        return _answer_rows(name, rows_of(form, document), form), form
    line = buffered.readline(FIRST_LINE_BYTES_MAX)
    if len(line) == FIRST_LINE_BYTES_MAX:
        raise ArchiveError(f"{name} is no CSV file: its first line has {FIRST_LINE_BYTES_MAX:,} bytes or more")
    first = line.decode().rstrip("\r\n")
    form = form or recognise_csv(name, first)
    is_header = first.lower() in {header.lower() for header in form.header}
    columns = [*form.columns, *(f"{idx}" for idx in range(len(form.columns), first.count(",") + 1))]
    options = pacsv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.string()), include_columns=_used(form), strings_can_be_null=True
    )
    rest = buffered if is_header else io.BufferedReader(_Joined(first.encode() + b"\n", buffered))
    if not rest.peek(1):
        return pa.table({column: pa.array([], pa.string()) for column in _used(form)}), form
    return pacsv.read_csv(rest, pacsv.ReadOptions(column_names=columns), convert_options=options), form


class _Measured(io.RawIOBase):
    """What a file contains, up to a limit: a small one may be packed so that it fills all memory."""

    def __init__(self, name: str, plain: "IO[bytes] | gzip.GzipFile", packed_bytes: int) -> None:
        self._name = name
        self._plain = plain
        self._left = self._bytes_max = max(UNPACKED_BYTES_MIN, packed_bytes * EXPANSION_MAX)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer)
        chunk = self._plain.read(len(target))
        self._left -= len(chunk)
        if self._left < 0:
            raise ArchiveError(
                f"{self._name} is unpacked to more than {self._bytes_max:,} bytes, more than {EXPANSION_MAX} times its "
                "size; if it has trades, unpack it first"
            )
        target[: len(chunk)] = chunk
        return len(chunk)


class _Joined(io.RawIOBase):
    """A line that was read already, and what follows it."""

    def __init__(self, line: bytes, rest: IO[bytes]) -> None:
        self._line = line
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        target = memoryview(buffer)
        chunk, self._line = self._line[: len(target)], self._line[len(target) :]
        chunk = chunk or self._rest.read(len(target))
        target[: len(chunk)] = chunk
        return len(chunk)


def _used(form: Form) -> list[str]:
    names = [form.symbol, form.sequence, form.first_sequence, form.trade_id, form.price, form.quantity]
    return [*dict.fromkeys(name for name in (*names, form.time.column, form.side.column) if name)]


def _answer_rows(name: str, rows: Sequence[Any], form: Form) -> pa.Table:
    used = _used(form)
    try:
        return pa.table(
            {
                column: pa.array([_text(row[int(column) if isinstance(row, list) else column]) for row in rows])
                for column in used
            },
            pa.schema([(column, pa.string()) for column in used]),
        )
    except (LookupError, TypeError) as error:
        raise ArchiveError(f"{name}: a trade of form {form.name} lacks {error}; name another --form") from None


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _normalised(name: str, rows: pa.Table, form: Form, names: Names, symbol: str | None) -> pa.Table:
    """Return the rows with the columns of `TRADES`; DuckDB parses numbers and times in columns."""
    number = _optional(form.sequence, _whole)
    columns = {
        "exchange": "$exchange",
        "symbol": "$symbol" if form.symbol is None else _quoted(form.symbol),
        "trade_id": _optional(form.trade_id, _quoted),
        "sequence": number,
        "first_sequence": f"nullif({_optional(form.first_sequence, _whole)}, {number})",
        "price": _quoted(form.price),
        "quantity": _quoted(form.quantity),
        "side": _side(form),
        "timestamp": _TIMES[form.time.unit](_quoted(form.time.column)),
    }
    select = ", ".join(f'{expression} AS "{column}"' for column, expression in columns.items())
    parameters = {"exchange": names.exchange or form.exchange, "symbol": symbol or names.symbol}
    wanted = "" if form.symbol is None or names.symbol is None else "WHERE symbol = $symbol"
    used = {key: value for key, value in parameters.items() if f"${key}" in select + wanted}
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        statement = f"SELECT * FROM (SELECT {select} FROM rows) {wanted}"
        try:
            table = connection.execute(statement, used).to_arrow_table()
        except duckdb.Error as error:
            raise ArchiveError(f"{name} is not of form {form.name}: {first_line(error)}; name another --form") from None
    trades = table.cast(TRADES)
    for column in ("price", "quantity", "timestamp", "sequence" if form.sequence else "trade_id"):
        if trades[column].null_count:
            raise ArchiveError(f"{name}: a trade has no {column}; the file is not whole, download it again")
    if trades.num_rows and (earliest := pc.min(trades["timestamp"]).as_py()) < EARLIEST_US:
        raise ArchiveError(
            f"{name}: a trade is dated before 2009 ({earliest} us since 1970), so the file is cut, or not of form "
            f"{form.name}; download it again, or name another --form"
        )
    return trades


def _optional(column: str | None, expression: Callable[[str], str]) -> str:
    return "NULL" if column is None else expression(column)


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _whole(column: str) -> str:
    """Return a whole number; a cast alone rounds one with a fraction, to the number of another trade."""
    text = _quoted(column)
    refusal = f"error('not a whole number: ' || {text})"
    return (
        f"CASE WHEN {text} IS NULL OR regexp_full_match({text}, '-?[0-9]+') THEN CAST({text} AS BIGINT) "
        f"ELSE {refusal} END"
    )


def _side(form: Form) -> str:
    sides = (("buy", form.side.buy), ("sell", form.side.sell))
    cases = [f"WHEN '{value}' THEN '{side}'" for side, values in sides for value in values]
    cases += [f"WHEN '{value}' THEN NULL" for value in form.side.none]
    column = _quoted(form.side.column)
    return f"CASE {column} {' '.join(cases)} ELSE error('unknown side ''' || coalesce({column}, '') || '''') END"


def _scaled(column: str, digits: int) -> str:
    """Return a time with a fraction as whole microseconds: as many of its digits are kept, what is finer is cut off.

    By its text: 0.2 us, where DuckDB takes 17 us to multiply a decimal (`python -m benchmarks.backfill`).
    """
    fraction = f"rpad(left(split_part({column}, '.', 2), {digits}), {digits}, '0')"
    return f"CAST(split_part({column}, '.', 1) || {fraction} AS BIGINT)"


_TIMES: Final[dict[str, Callable[[str], str]]] = {
    "s": lambda column: _scaled(column, 6),
    "ms": lambda column: _scaled(column, 3),
    "ms_or_us": lambda column: (
        f"CAST({column} AS BIGINT) * CASE WHEN CAST({column} AS BIGINT) < {MILLISECONDS_END} THEN 1000 ELSE 1 END"
    ),
    "rfc3339": lambda column: f"epoch_us(CAST({column} AS TIMESTAMPTZ))",
}
"""Microseconds of a time's text, by its unit."""

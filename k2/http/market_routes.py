"""The routes that ask for trades: rows, symbols, bars, average prices, and free SQL."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from k2.http import json_columns
from k2.http.dependencies import ResponseFactory, TabularResponses
from k2.http.openapi import rows_of, some_rows
from k2.http.parameters import BarsRequest, PricesRequest, RowsRequest, SqlRequest
from k2.http.responses import QueryResponse
from k2.query import query_builders
from k2.query.market import Market
from k2.query.query_builders import TradesQuery

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["market"])


@router.get("/symbols", responses=rows_of(json_columns.SYMBOLS))
async def symbols(asked: Annotated[RowsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each exchange and symbol, with the number of its trades."""
    return _answer(respond, query_builders.symbols, asked)


@router.get("/trades", responses=rows_of(json_columns.TRADES))
async def trades(asked: Annotated[RowsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return trades, the oldest first by venue time."""
    return _answer(respond, query_builders.trades, asked)


@router.get("/latest", responses=rows_of(json_columns.TRADES))
async def latest(asked: Annotated[RowsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return the latest trade of each symbol, by venue time."""
    return _answer(respond, query_builders.latest, asked)


@router.get("/ohlcv", responses=rows_of(json_columns.BARS))
async def ohlcv(asked: Annotated[BarsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return bars; one without trades is left out."""
    return _answer(respond, query_builders.ohlcv, asked)


@router.get("/vwap", responses=rows_of(json_columns.VWAP, json_columns.START))
async def vwap(asked: Annotated[PricesRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each symbol's average price, weighted by quantity."""
    return _answer(respond, query_builders.vwap, asked)


@router.get("/twap", responses=rows_of(json_columns.TWAP, json_columns.START))
async def twap(asked: Annotated[PricesRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each symbol's average price, weighted by how long it held: to the next trade, or to the end."""
    return _answer(respond, query_builders.twap, asked)


@router.post("/sql", responses=some_rows())
async def sql(asked: SqlRequest, respond: TabularResponses) -> QueryResponse:
    """QueryResponse one SELECT over trades, sequence_events, commits and dead_letters."""
    return respond.rows(lambda session: Market(session).sql(asked.sql, asked.as_of), asked.limit)


def _answer(
    respond: ResponseFactory, question: Callable[..., TradesQuery], asked: RowsRequest | BarsRequest | PricesRequest
) -> QueryResponse:
    fields: dict[str, Any] = asked.model_dump(exclude_none=True)
    return respond.rows(lambda session: Market(session).rows(question(**fields)), asked.limit)

"""Routes that query trades: rows, symbols, bars, average prices and SQL."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from k2.http import json_columns
from k2.http.dependencies import ResponseFactory, TabularResponses
from k2.http.openapi import any_rows, rows_of
from k2.http.parameters import BarsRequest, PricesRequest, RowsRequest, SqlRequest, TradesRequest
from k2.http.responses import QueryResponse
from k2.query import query_builders
from k2.query.market import Market
from k2.query.query_builders import TradesQuery

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["market"])


@router.get("/symbols", responses=rows_of(json_columns.SYMBOLS))
async def symbols(parameters: Annotated[RowsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each exchange and symbol, with the number of its trades."""
    return _respond(respond, query_builders.symbols, parameters)


@router.get("/trades", responses=rows_of(json_columns.TRADES, json_columns.CORRECTION))
async def trades(parameters: Annotated[TradesRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return trades, oldest first by venue time; with `corrected`, as their venues left them."""
    return _respond(respond, query_builders.trades, parameters)


@router.get("/latest", responses=rows_of(json_columns.TRADES))
async def latest(parameters: Annotated[RowsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return the latest trade of each symbol, by venue time."""
    return _respond(respond, query_builders.latest, parameters)


@router.get("/ohlcv", responses=rows_of(json_columns.BARS))
async def ohlcv(parameters: Annotated[BarsRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return bars; intervals without trades are left out."""
    return _respond(respond, query_builders.ohlcv, parameters)


@router.get("/vwap", responses=rows_of(json_columns.VWAP, json_columns.START))
async def vwap(parameters: Annotated[PricesRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each symbol's average price, weighted by quantity."""
    return _respond(respond, query_builders.vwap, parameters)


@router.get("/twap", responses=rows_of(json_columns.TWAP, json_columns.START))
async def twap(parameters: Annotated[PricesRequest, Query()], respond: TabularResponses) -> QueryResponse:
    """Return each symbol's average price, weighted by how long it held: until the next trade, or until `end`."""
    return _respond(respond, query_builders.twap, parameters)


@router.post("/sql", responses=any_rows())
async def sql(parameters: SqlRequest, respond: TabularResponses) -> QueryResponse:
    """Run one SELECT over trades, sequence_events, commits, corrections and dead_letters."""
    return respond.rows(lambda session: Market(session).sql(parameters.sql, parameters.as_of), parameters.limit)


def _respond(
    respond: ResponseFactory,
    build: Callable[..., TradesQuery],
    parameters: RowsRequest | BarsRequest | PricesRequest,
) -> QueryResponse:
    fields: dict[str, Any] = parameters.model_dump(exclude_none=True)
    return respond.rows(lambda session: Market(session).rows(build(**fields)), parameters.limit)

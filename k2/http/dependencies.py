"""FastAPI dependencies of the routes: the executor, the status, and the response format that the request accepts."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, BinaryIO

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from k2.http.executor import QueryExecutor
from k2.http.responses import MEDIA_TYPES, QueryResponse, negotiate_format
from k2.query.engine import RecordBatchStream
from k2.query.output_formats import Format, to_json, write, write_records
from k2.query.pool import CancellableSession
from k2.status.reader import StatusReader

__all__ = ["DocumentResponses", "ResponseFactory", "StatusSource", "TabularResponses"]


class ResponseFactory:
    """Creates the response to one request."""

    def __init__(self, executor: QueryExecutor, output_format: Format) -> None:
        """Run queries on an executor, and encode their results in a format."""
        self._executor = executor
        self._format = output_format

    def rows(
        self, query: Callable[[CancellableSession], AbstractContextManager[RecordBatchStream]], limit: int
    ) -> QueryResponse:
        """Stream at most `limit` rows."""

        def run(session: CancellableSession, stream: BinaryIO) -> None:
            with query(session) as rows:
                write(rows.first(limit), self._format, stream)

        return QueryResponse(self._executor, run, MEDIA_TYPES[self._format], {"K2-Limit": str(limit)})

    def records(
        self, kind: type[Any], report: Callable[[CancellableSession], Sequence[Any]], limit: int | None = None
    ) -> QueryResponse:
        """Send a report's rows, each an instance of the data class `kind`."""

        def run(session: CancellableSession, stream: BinaryIO) -> None:
            write_records(kind, report(session), self._format, stream)

        return QueryResponse(self._executor, run, MEDIA_TYPES[self._format], _limited(limit))

    def document(self, report: Callable[[CancellableSession], object], limit: int | None = None) -> QueryResponse:
        """Send one JSON document."""

        def run(session: CancellableSession, stream: BinaryIO) -> None:
            stream.write(to_json(report(session)))

        return QueryResponse(self._executor, run, MEDIA_TYPES[Format.JSON], _limited(limit))


def _limited(limit: int | None) -> dict[str, str] | None:
    return None if limit is None else {"K2-Limit": str(limit)}


def _any_format(request: Request) -> ResponseFactory:
    return _response_factory(request, tuple(Format))


def _json(request: Request) -> ResponseFactory:
    return _response_factory(request, (Format.JSON,))


def _response_factory(request: Request, formats: Sequence[Format]) -> ResponseFactory:
    names = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise RequestValidationError(
            [{"loc": ("query", repeated[0]), "msg": "is given more than once; give it once", "type": "repeated"}]
        )
    return ResponseFactory(request.app.state.executor, negotiate_format(request, formats))


def _status_reader(request: Request) -> StatusReader:
    reader: StatusReader = request.app.state.status_reader
    return reader


StatusSource = Annotated[StatusReader, Depends(_status_reader)]
TabularResponses = Annotated[ResponseFactory, Depends(_any_format)]
DocumentResponses = Annotated[ResponseFactory, Depends(_json)]

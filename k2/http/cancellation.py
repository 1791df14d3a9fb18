"""What the routes share: where they ask, and the format in which the answer is wanted."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any, BinaryIO

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from k2.http.executor import QueryExecutor
from k2.http.responses import Answer, format_asked
from k2.query.engine import Rows
from k2.query.output_formats import Format, to_json, write, write_records
from k2.query.pool import Caller

__all__ = ["Ask", "AskForDocument", "AskForRows"]


class Ask:
    """Makes the answer to one request."""

    def __init__(self, desk: QueryExecutor, form: Format) -> None:
        """Ask at a desk, for a format."""
        self._desk = desk
        self._form = form

    def rows(self, question: Callable[[Caller], AbstractContextManager[Rows]], limit: int) -> Answer:
        """Answer with rows as they come, so many at the most."""

        def run(caller: Caller, stream: BinaryIO) -> None:
            with question(caller) as rows:
                write(rows.first(limit), self._form, stream)

        return Answer(self._desk, run, self._form, {"K2-Limit": str(limit)})

    def records(self, kind: type[Any], report: Callable[[Caller], Sequence[Any]], limit: int | None = None) -> Answer:
        """Answer with a report's rows, each an instance of a data class."""

        def run(caller: Caller, stream: BinaryIO) -> None:
            write_records(kind, report(caller), self._form, stream)

        return Answer(self._desk, run, self._form, _limited(limit))

    def document(self, report: Callable[[Caller], object], limit: int | None = None) -> Answer:
        """Answer with one JSON document."""

        def run(caller: Caller, stream: BinaryIO) -> None:
            stream.write(to_json(report(caller)))

        return Answer(self._desk, run, Format.JSON, _limited(limit))


def _limited(limit: int | None) -> dict[str, str] | None:
    return None if limit is None else {"K2-Limit": str(limit)}


def _ask(request: Request) -> Ask:
    return _asked(request, tuple(Format))


def _ask_for_document(request: Request) -> Ask:
    return _asked(request, (Format.JSON,))


def _asked(request: Request, formats: Sequence[Format]) -> Ask:
    names = Counter(name for name, _ in request.query_params.multi_items())
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise RequestValidationError([{"loc": ("query", twice[0]), "msg": "is given more than once", "type": "twice"}])
    return Ask(request.app.state.desk, format_asked(request, formats))


AskForRows = Annotated[Ask, Depends(_ask)]
AskForDocument = Annotated[Ask, Depends(_ask_for_document)]

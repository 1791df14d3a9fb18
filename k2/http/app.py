"""The ASGI application: routes behind middleware that checks the host, the API key and the body size."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.http import market_routes, report_routes
from k2.http.access import ApiKeyMiddleware, LoopbackHostMiddleware
from k2.http.concurrency_limit import BodyLimitMiddleware
from k2.http.dependencies import StatusSource
from k2.http.executor import QueryExecutor
from k2.http.metrics_response import MetricsResponse
from k2.http.openapi import set_openapi
from k2.http.problems import UnexpectedErrorMiddleware, add_problem_handlers
from k2.http.responses import create_query_series
from k2.http.static import add_page
from k2.ops.version import installed_version
from k2.query.output_formats import to_json
from k2.query.pool import Pool
from k2.status.deadlines import DeadlineReader
from k2.status.reader import StatusReader

__all__ = ["make_app"]

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


def make_app(pool: Pool) -> FastAPI:
    """Return the application for a pool, which it does not close; the pool's settings have the keys and limits."""
    settings, executor = pool.settings, QueryExecutor(pool)
    create_query_series()

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        yield
        await executor.close()

    app = FastAPI(title="K2 trades", version=installed_version() or "0", docs_url=None, redoc_url=None, lifespan=alive)
    app.state.executor = executor
    app.state.status_reader = StatusReader(settings, logs_changes=True)
    app.state.deadline_reader = DeadlineReader(settings)
    add_problem_handlers(app, pool)
    app.include_router(market_routes.router)
    app.include_router(report_routes.router)
    app.add_api_route("/healthz", healthz, tags=["health"])
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    add_page(app)
    set_openapi(app, has_keys=bool(settings.api_keys))
    # The middleware added last is the outermost.
    app.add_middleware(BodyLimitMiddleware, bytes_max=settings.api_body_bytes_max)
    if settings.api_keys:
        app.add_middleware(ApiKeyMiddleware, keys=[key.get_secret_value() for key in settings.api_keys])
    else:
        app.add_middleware(LoopbackHostMiddleware)
    app.add_middleware(UnexpectedErrorMiddleware)
    app.add_middleware(_SecurityHeadersMiddleware)
    return app


async def healthz() -> Response:
    """Report that the server is up; the catalog is not checked."""
    return Response(to_json({"status": "ok"}), media_type="application/json")


async def metrics(request: Request, reader: StatusSource) -> MetricsResponse:
    """Return the verdict on the capture as Prometheus metrics; the metrics of the job are at its own port."""
    return MetricsResponse(request.app.state.executor, reader, request.app.state.deadline_reader)


class _SecurityHeadersMiddleware:
    """Sets headers that forbid browsers MIME sniffing, caching, and loading from other origins."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending)

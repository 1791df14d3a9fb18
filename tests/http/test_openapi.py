"""The OpenAPI description is true of each route, checked by requests generated from it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from k2.http.app import make_app
from k2.ops.settings import Settings
from k2.query.pool import Pool

ROOT = Path(__file__).parents[2]
ROUTES = {
    *(("GET", f"/v1/{name}") for name in ("symbols", "trades", "latest", "ohlcv", "vwap", "twap")),
    *(
        ("GET", f"/v1/{name}")
        for name in (
            "gaps",
            "corrections",
            "completeness",
            "feeds",
            "reconcile",
            "audit",
            "history",
            "progress",
            "status",
            "days",
        )
    ),
    *(("GET", f"/v1/{name}") for name in ("completeness/summary", "dead-letters", "dead-letters/list")),
    ("POST", "/v1/sql"),
    ("GET", "/healthz"),
}
ASKED = {"200", "400", "404", "406", "408", "413", "422", "500", "503", "504", "507"}
KEY = SecretStr("key")


@pytest.mark.parametrize(("keys", "entrance"), [((KEY,), "401"), ((), "421")])
def test_every_route_is_described(market: Settings, keys: tuple[SecretStr, ...], entrance: str) -> None:
    """The description names every route, its response, each status it can have, and where a key is required."""
    with Pool(market.model_copy(update={"api_keys": keys}), connections=1) as pool:
        described = make_app(pool).openapi()
    found = {
        (method.upper(), path): operation
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    }
    assert {*found} == ROUTES
    for (_, path), operation in found.items():
        is_open = path == "/healthz"
        statuses = {"200", "408", "413", "500"} if is_open else ASKED
        assert {*operation["responses"]} == statuses | (set() if is_open and keys else {entrance})
        assert ("security" in operation) is (bool(keys) and not is_open)
        assert operation["description"].endswith(".")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--phases=examples,fuzzing", "--max-examples=2"], id="a few of each route"),
        # One route of each kind: they share the checks of parameters, bodies and keys.
        pytest.param(
            ["--phases=coverage", *(f"--include-path={path}" for path in ("/healthz", "/v1/sql", "/v1/gaps"))],
            id="each boundary",
        ),
    ],
)
def test_generated_requests_are_answered_as_described(serve: Callable[..., Any], arguments: list[str]) -> None:
    """Valid requests succeed as described, invalid ones are rejected as described, and nothing crashes."""
    client = serve(api_keys=(KEY,))
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"--header=X-API-Key: {KEY.get_secret_value()}"]
    more = ["--seed=1", "--generation-database=none", "--no-color", "--warnings=off", *arguments]
    address = f"http://{client.host}:{client.port}/openapi.json"
    done = subprocess.run([*command, *more, address], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout

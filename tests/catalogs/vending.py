"""A REST catalog that vends storage keys, and a gate in front of S3 that refuses the keys which have expired.

The catalog is PyIceberg's SQL catalog behind the endpoints of the REST specification that the job uses; it has keys of
its own. The gate looks at a request's key by its name, and forwards the request as it is.
"""

import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import CommitTableRequest, Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

from tests.s3 import KEYS, REGION, S3

_KEY: Final = re.compile(r"Credential=([^/]+)/")
_CODES: Final[Mapping[type[Exception], HTTPStatus]] = {
    NoSuchNamespaceError: HTTPStatus.NOT_FOUND,
    NoSuchTableError: HTTPStatus.NOT_FOUND,
    CommitFailedException: HTTPStatus.CONFLICT,
    NamespaceAlreadyExistsError: HTTPStatus.CONFLICT,
    TableAlreadyExistsError: HTTPStatus.CONFLICT,
}
_HOP_BY_HOP: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
SECONDS_MAX: Final = 30.0


class Vending:
    """What the catalog vends, and what the gate lets pass."""

    def __init__(self, s3: S3, folder: Path) -> None:
        self.s3 = s3
        self.lifetime_seconds = 3600.0
        """Of each key; 0 for a catalog that vends none, and a gate that lets all pass."""
        self.states_expiry = True
        """Whether the catalog states when a key expires."""
        self.in_storage_credentials = False
        """Whether keys are in `storage-credentials`, rather than in `config`."""
        self.refusal = HTTPStatus.BAD_REQUEST
        """What S3 answers to an expired key: AWS 400, others 403."""
        self.requests: list[str] = []
        """Method and path of each request to the catalog."""
        self.refused: list[str] = []
        """Method and path of each request that the gate refused."""
        self.catalog_is_away = False
        bucket = s3.bucket()
        self.warehouse = f"s3://{bucket}/warehouse"
        self.catalog = SqlCatalog(
            "behind", **{"uri": f"sqlite:///{folder}/behind.db", "warehouse": self.warehouse, **self._own_keys()}
        )
        self.lock = threading.Lock()
        self.gate_port = self.catalog_port = 0
        self._expiry: dict[str, float] = {}
        self._numbers = itertools.count(1)

    def _own_keys(self) -> dict[str, str]:
        key, secret = KEYS
        return {
            "s3.endpoint": self.s3.endpoint,
            "s3.access-key-id": key,
            "s3.secret-access-key": secret,
            "s3.region": REGION,
        }

    def variables(self) -> dict[str, str]:
        """Return PyIceberg's variables for the catalog, without any key."""
        properties = {"URI": f"http://127.0.0.1:{self.catalog_port}", "S3__REGION": REGION}
        if not self.lifetime_seconds:
            properties |= {"S3__ACCESS_KEY_ID": KEYS[0], "S3__SECRET_ACCESS_KEY": KEYS[1]}
        return {f"PYICEBERG_CATALOG__K2__{name}": value for name, value in properties.items()}

    def revoke(self) -> None:
        """Make all keys expire now, whatever the catalog stated."""
        self._expiry = dict.fromkeys(self._expiry, 0.0)

    @property
    def vended(self) -> int:
        """How many keys were vended."""
        return len(self._expiry)

    def answer_of(self, table: Table) -> dict[str, Any]:
        """Return what the catalog answers to a load of a table."""
        answer = {
            "metadata-location": table.metadata_location,
            "metadata": json.loads(table.metadata.model_dump_json()),
            "config": {"s3.endpoint": f"http://127.0.0.1:{self.gate_port}"},
        }
        if self.lifetime_seconds:
            keys = self._new_keys()
            if self.in_storage_credentials:
                answer["storage-credentials"] = [{"prefix": self.warehouse, "config": keys}]
            else:
                answer["config"] |= keys
        return answer

    def _new_keys(self) -> dict[str, str]:
        number, expires_at = next(self._numbers), time.time() + self.lifetime_seconds
        self._expiry[f"VENDED{number}"] = expires_at
        keys = {
            "s3.access-key-id": f"VENDED{number}",
            "s3.secret-access-key": f"secret{number}",
            "s3.session-token": f"token{number}",
        }
        return keys | ({"s3.session-token-expires-at-ms": str(int(expires_at * 1000))} if self.states_expiry else {})

    def accepts(self, authorization: str) -> bool:
        """Return whether a request may pass the gate."""
        found = _KEY.search(authorization)
        return found is not None and (not self.lifetime_seconds or time.time() < self._expiry.get(found[1], 0.0))


@contextmanager
def vending(s3: S3, folder: Path) -> Iterator[Vending]:
    """Yield a catalog and a gate, each on a free port of loopback."""
    state = Vending(s3, folder)
    servers = [_Server(handler, state) for handler in (_Gate, _Catalog)]
    state.gate_port, state.catalog_port = (server.server_port for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        state.catalog.close()


class _Server(ThreadingHTTPServer):
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler], state: Vending) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients close connections as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def state(self) -> Vending:
        state: Vending = self.server.state  # type: ignore[attr-defined]
        return state

    def answer(self, code: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        # The answer to a HEAD request has the length of an object that it does not send.
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class _Gate(_Handler):
    """Refuses keys that have expired, and forwards all else to S3."""

    def do_GET(self) -> None:
        """Handle a request of any method."""
        body = self.body()
        if not self.state.accepts(self.headers.get("Authorization", "")):
            self.state.refused.append(f"{self.command} {self.path}")
            error = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
            self.answer(self.state.refusal, error, {"Content-Type": "application/xml"})
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        headers["Content-Length"] = str(len(body))
        with closing(http.client.HTTPConnection("127.0.0.1", self.state.s3.port, timeout=SECONDS_MAX)) as upstream:
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            passed = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if self.command == "HEAD":
                passed["Content-Length"] = response.headers.get("Content-Length", "0")
            self.answer(response.status, response.read(), passed)

    do_DELETE = do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  the names that http.server looks for


class _Catalog(_Handler):
    """The endpoints of the REST specification that the job uses."""

    def do_GET(self) -> None:
        """Handle a request of any method."""
        state = self.state
        body = self.body()
        state.requests.append(f"{self.command} {self.path}")
        if state.catalog_is_away:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, _error(HTTPStatus.SERVICE_UNAVAILABLE, "Away", "is away"))
            return
        with state.lock:
            try:
                code, answer = HTTPStatus.OK, self._handle(self.path.partition("?")[0].split("/")[2:], body)
            except Exception as error:  # noqa: BLE001  a fault of this server must reach the test
                code = _CODES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
                answer = _error(code, type(error).__name__, str(error))
        self._answer(code, answer)

    do_DELETE = do_HEAD = do_POST = do_GET  # noqa: N815  as above

    def _handle(self, path: list[str], body: bytes) -> dict[str, Any]:
        catalog, state = self.state.catalog, self.state
        match self.command, path:
            case "GET", ["config"]:
                return {"defaults": {}, "overrides": {}}
            case "POST", ["namespaces"]:
                catalog.create_namespace(tuple(json.loads(body)["namespace"]))
            case "GET" | "HEAD", ["namespaces", namespace]:
                return {"namespace": [namespace], "properties": dict(catalog.load_namespace_properties(namespace))}
            case "GET", ["namespaces", namespace, "tables", name]:
                return state.answer_of(catalog.load_table((namespace, name)))
            case "DELETE", ["namespaces", namespace, "tables", name]:
                catalog.drop_table((namespace, name))
            case "POST", ["namespaces", namespace, "tables"]:
                return state.answer_of(
                    self._created(namespace, CreateTableRequest(**{"location": None, **json.loads(body)}))
                )
            case "POST", ["namespaces", namespace, "tables", name]:
                request = CommitTableRequest.model_validate_json(body)
                table = catalog.load_table((namespace, name))
                response = catalog.commit_table(table, request.requirements, request.updates)
                answer: dict[str, Any] = json.loads(response.model_dump_json())
                return answer
            case _:
                raise AssertionError(f"{self.command} {self.path} is not one of the job's requests")
        return {}

    def _created(self, namespace: str, request: CreateTableRequest) -> Table:
        return self.state.catalog.create_table(
            (namespace, request.name),
            request.table_schema,
            partition_spec=request.partition_spec or UNPARTITIONED_PARTITION_SPEC,
            sort_order=request.write_order or UNSORTED_SORT_ORDER,
            properties=request.properties,
        )

    def _answer(self, code: int, answer: Mapping[str, Any]) -> None:
        self.answer(code, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def _error(code: HTTPStatus, kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": int(code)}}

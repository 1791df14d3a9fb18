"""A stub of a schema registry on loopback, with the part of Confluent's interface that the job and serializers use.

It is no registry: it keeps what is registered in memory, knows no compatibility, and answers with faults on demand.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["StubRegistry", "stub_registry"]


@dataclass
class StubRegistry:
    """A running stub."""

    url: str = ""
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Schemas by id, as the interface returns them."""
    subjects: dict[str, list[int]] = field(default_factory=dict)
    """Ids of the versions of a subject, the first first."""
    requests: list[str] = field(default_factory=list)
    """Paths of all requests, with their parameters."""
    logins: list[str] = field(default_factory=list)
    """User and password of each request that had them."""
    faults: list[int] = field(default_factory=list)
    """HTTP status of the answers to the next requests; 0 closes the connection without one."""
    delay_seconds: float = 0.0
    page: bytes | None = None
    """What is answered to every request, if this is a web server of another kind."""

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Register a schema, and return its id; that of an equal schema if there is one."""
        schema = {name: schema[name] for name in ("schema", "schemaType", "references") if schema.get(name)}
        schema_id = next((number for number, one in self.schemas.items() if one == schema), len(self.schemas) + 1)
        self.schemas[schema_id] = schema
        versions = self.subjects.setdefault(subject, [])
        if schema_id not in versions:
            versions.append(schema_id)
        return schema_id

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Return status and content of the answer to a request."""
        path = [unquote(part) for part in urlsplit(target).path.strip("/").split("/")]
        if path == ["schemas", "types"]:
            return 200, ["AVRO", "JSON", "PROTOBUF"]
        if path[:2] == ["schemas", "ids"]:
            found = self.schemas.get(int(path[2]))
            return (404, {"error_code": 40403, "message": "Schema not found"}) if found is None else (200, found)
        if path[0] == "subjects" and method == "POST":
            number = self.register(path[1], json.loads(body))
            return 200, {"id": number, **self._version(path[1], number)}
        if path[0] == "subjects" and path[1] in self.subjects:
            numbers = self.subjects[path[1]]
            number = numbers[-1] if path[3] == "latest" else numbers[int(path[3]) - 1]
            return 200, {"id": number, **self._version(path[1], number)}
        return 404, {"error_code": 40401, "message": "Subject not found"}

    def _version(self, subject: str, number: int) -> dict[str, Any]:
        return {"subject": subject, "version": self.subjects[subject].index(number) + 1, **self.schemas[number]}


@contextmanager
def stub_registry(port: int = 0) -> Iterator[StubRegistry]:
    """Run a stub on a free port, or on the given one."""
    stub = StubRegistry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            stub.requests.append(self.path)
            if login := self.headers.get("Authorization"):
                stub.logins.append(base64.b64decode(login.removeprefix("Basic ")).decode())
            time.sleep(stub.delay_seconds)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = stub.faults.pop(0) if stub.faults else None
            if status == 0:
                self.close_connection = True
                return
            code, content = (status, {}) if status else stub.answer(self.command, self.path, body)
            data = json.dumps(content).encode() if stub.page is None else stub.page
            self.send_response(code)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()

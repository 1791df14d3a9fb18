"""An S3 server for the tests, a process on loopback: moto's, in an environment of its own.

It cannot run in the tests' environment: its AWS client requires other versions of shared packages.
"""

import http.client
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from uuid import uuid4

import pyarrow.fs as pafs
import pytest

from k2.ops.child_process import ChildProcess, free_port
from k2.ops.settings import Settings, read_settings
from tests.environments import environment
from tests.maven import NotToBeHadError

PINS: Final = Path(__file__).parent.parent / "requirements" / "s3-server.txt"
START_SECONDS_MAX: Final = 60.0
KEYS: Final = ("k2", "secret")
REGION: Final = "us-east-1"


@dataclass(frozen=True)
class S3:
    """A running S3 server."""

    port: int
    process: ChildProcess

    @property
    def endpoint(self) -> str:
        """The URL that clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> str:
        """Create a bucket with an unused name."""
        name = f"b{uuid4().hex[:12]}"
        self._filesystem().create_dir(name)
        return name

    def remove(self, bucket: str) -> None:
        """Remove a bucket and its objects."""
        self._filesystem().delete_dir(bucket)

    def _filesystem(self) -> pafs.S3FileSystem:
        key, secret = KEYS
        return pafs.S3FileSystem(
            access_key=key,
            secret_key=secret,
            region=REGION,
            endpoint_override=self.endpoint,
            allow_bucket_creation=True,
            allow_bucket_deletion=True,
        )

    def variables(self, bucket: str, catalog: Path) -> dict[str, str]:
        """Return PyIceberg's variables for a warehouse in a bucket and a catalog in a SQLite file."""
        key, secret = KEYS
        properties = {
            "URI": f"sqlite:///{catalog}",
            "WAREHOUSE": f"s3://{bucket}/warehouse",
            "S3__ENDPOINT": self.endpoint,
            "S3__ACCESS_KEY_ID": key,
            "S3__SECRET_ACCESS_KEY": secret,
            "S3__REGION": REGION,
        }
        return {f"PYICEBERG_CATALOG__K2__{name}": value for name, value in properties.items()}

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reject every access key while the block lasts."""
        self._requests_unchecked(0)
        try:
            yield
        finally:
            self._requests_unchecked(10**9)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Answer nothing while the block lasts; connections stay open."""
        self.process.pause()
        try:
            yield
        finally:
            self.process.resume()

    def _requests_unchecked(self, count: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request("POST", "/moto-api/reset-auth", str(count))
            assert connection.getresponse().status == 200


@contextmanager
def running_s3() -> Iterator[S3]:
    """Yield a running S3 server.

    Raises:
        NotToBeHadError: the server is not available here.
    """
    python = environment(PINS)
    with tempfile.TemporaryDirectory(prefix="k2-s3-") as folder:
        port = free_port()
        server = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        child = ChildProcess(server, Path(folder) / "s3.log")
        child.start()
        try:
            if not child.wait_until(lambda: _answers(port), START_SECONDS_MAX):
                raise NotToBeHadError(f"the S3 server does not start; its log ends: {child.log_end()}")
            yield S3(port, child)
        finally:
            child.resume()
            child.kill()


@pytest.fixture(scope="session")
def s3(missing: Callable[[str], NoReturn]) -> Iterator[S3]:
    """Yield an S3 server, started on first use."""
    try:
        with running_s3() as server:
            yield server
    except NotToBeHadError as error:
        missing(f"an S3 server ({error})")


@pytest.fixture
def on_s3(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose warehouse is the test's own bucket; the environment configures it."""
    variables = {"K2_DATA_DIR": str(tmp_path), **s3.variables(s3.bucket(), tmp_path / "catalog.db")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_settings({"K2_DATA_DIR": str(tmp_path)})


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/moto-api/data.json")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

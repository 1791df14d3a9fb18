"""Real catalogs for the tests, in processes on loopback: PostgreSQL, and Apache's Iceberg REST server."""

import http.client
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psycopg2

from k2.ops.child_process import ChildProcess, free_port
from tests.maven import NotToBeHadError, jars_of, run

POM: Final = Path(__file__).parent / "pom.xml"
SERVER_XML: Final = Path(__file__).parent / "server.xml"
DEBIAN_BINARIES: Final = Path("/usr/lib/postgresql")
"""Where Debian's package `postgresql` keeps its programs, in a folder a version."""
POSTGRESQL_MIN: Final = 13
START_SECONDS_MAX: Final = 60.0
LOGIN: Final = ("k2", "right")
"""User and password of PostgreSQL's superuser."""
CONNECTIONS_MAX: Final = 200


@dataclass(frozen=True)
class Server:
    """A running catalog server."""

    port: int
    warehouse: Path


@contextmanager
def running_postgresql() -> Iterator[Server]:
    """Yield PostgreSQL with a cluster of its own, which is deleted at the end.

    Raises:
        NotToBeHadError: PostgreSQL is not available here.
    """
    binaries = _postgresql_binaries()
    with tempfile.TemporaryDirectory(prefix="k2-postgresql-") as name:
        folder = Path(name)
        password = folder / "password"
        password.write_text(LOGIN[1], encoding="ascii")
        as_user = _as_its_user(folder, password)
        cluster = ["-D", str(folder / "cluster")]
        first = ["-U", LOGIN[0], f"--pwfile={password}", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]
        run([*as_user, f"{binaries}/initdb", *cluster, *first], START_SECONDS_MAX)
        port = free_port()
        options = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": CONNECTIONS_MAX,
            "fsync": "off",
        }
        settings = [part for option in options.items() for part in ("-c", "{}={}".format(*option))]
        # It asks again for SIGKILL when this process ends, because changing the user resets that.
        follow = ["--pdeathsig", "SIGKILL"] if as_user else []
        child = ChildProcess(
            [*as_user, *follow, f"{binaries}/postgres", *cluster, *settings], folder / "postgresql.log"
        )
        # SIGINT ends it even if clients are connected.
        with _started(child, lambda: _logs_in(port), "PostgreSQL", signal.SIGINT):
            yield Server(port, folder / "warehouse")


@contextmanager
def running_rest() -> Iterator[Server]:
    """Yield Apache's Iceberg REST catalog over a catalog in SQLite.

    Raises:
        NotToBeHadError: the catalog server is not available here.
    """
    jars = jars_of(POM, "iceberg-rest")
    with tempfile.TemporaryDirectory(prefix="k2-rest-") as name:
        folder, port = Path(name), free_port()
        properties = {
            "k2.port": port,
            "k2.database": f"jdbc:sqlite:{folder}/catalog.db",
            "k2.warehouse": f"file:{folder}/warehouse",
        }
        java = ["java", "-Xmx256m", "-XX:+UseSerialGC", *("-D{}={}".format(*item) for item in properties.items())]
        main = ["-cp", f"{jars}/*", "org.eclipse.jetty.xml.XmlConfiguration", str(SERVER_XML)]
        child = ChildProcess([*java, *main], folder / "rest.log")
        with _started(child, lambda: _is_serving(port), "the Iceberg REST catalog", signal.SIGTERM):
            yield Server(port, folder / "warehouse")


def make_database(server: Server) -> str:
    """Create an empty database in PostgreSQL and return its name."""
    name = f"d{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE DATABASE {name}")
    return name


def execute(server: Server, *statements: str) -> None:
    """Execute statements in PostgreSQL, each in its own transaction."""
    with closing(_connect(server.port)) as connection:
        connection.autocommit = True
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)


def _connect(port: int) -> "psycopg2.extensions.connection":
    user, password = LOGIN
    return psycopg2.connect(host="127.0.0.1", port=port, user=user, password=password, dbname="postgres")


@contextmanager
def _started(child: ChildProcess, answers: Callable[[], bool], name: str, end: signal.Signals) -> Iterator[None]:
    child.start()
    try:
        if not child.wait_until(answers, START_SECONDS_MAX):
            raise NotToBeHadError(f"{name} does not start; its log ends: {child.log_end()}")
        yield
    finally:
        if child.pid is not None:
            os.kill(child.pid, end)
        child.stop()


def _postgresql_binaries() -> Path:
    installed = {int(folder.name): folder / "bin" for folder in DEBIAN_BINARIES.glob("[0-9]*")}
    found = [installed[version] for version in sorted(installed) if version >= POSTGRESQL_MIN]
    if found:
        return found[-1]
    on_path = shutil.which("initdb")
    if on_path is None:
        raise NotToBeHadError(f"there is no PostgreSQL {POSTGRESQL_MIN} or later")
    return Path(on_path).resolve().parent


def _as_its_user(*paths: Path) -> list[str]:
    """Return the words that start a command as PostgreSQL's own user if this process is root, which it rejects."""
    if os.geteuid() != 0:
        return []
    try:
        for path in paths:
            shutil.chown(path, "postgres", "postgres")
    except LookupError:
        raise NotToBeHadError("PostgreSQL has no user 'postgres' to run as") from None
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--inh-caps=-all"]


def _logs_in(port: int) -> bool:
    try:
        _connect(port).close()
    except psycopg2.OperationalError:
        return False
    return True


def _is_serving(port: int) -> bool:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", "/v1/config")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

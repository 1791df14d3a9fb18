"""What the catalog tests rely on."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import psycopg2
import pytest

from tests.catalogs.servers import POM, Server, execute
from tests.maven import version_in

ROOT: Final = Path(__file__).resolve().parents[2]


def test_the_documented_server_version_is_the_tested_one() -> None:
    """The version in the pom is the one that docs/operations.md names."""
    said = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"Apache Iceberg {version_in(POM, 'iceberg-rest')}'s own server" in said


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_postgresql_dies_with_its_parent(postgresql: Server) -> None:
    """A killed test run leaves no server behind, although the server runs as another user."""
    execute(postgresql, "SELECT 1")
    parent = (
        "import sys; from tests.catalogs.servers import running_postgresql; "
        "server = running_postgresql(); print(server.__enter__().port, flush=True); sys.stdin.read()"
    )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with subprocess.Popen(
            [sys.executable, "-c", parent],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            other = Server(int(process.stdout.readline()), Path())
            execute(other, "SELECT 1")
            process.kill()
        assert _is_gone(other)


def _is_gone(server: Server) -> bool:
    for _ in range(100):
        try:
            execute(server, "SELECT 1")
        except psycopg2.OperationalError:
            return True
        time.sleep(0.1)
    return False

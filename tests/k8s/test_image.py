"""What the Dockerfile builds, built without Docker: by the same script, from the same files, into another folder."""

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from tests.brokers import Broker
from tests.k8s.rendered import ROOT

IMAGE_USER: Final = 65_532
PREFIX: Final = "/opt/k2"
CAPTURE: Final = ROOT / "tests" / "data" / "binance-spot-btcusdt-20240808.ndjson.gz"
START_US: Final = 1_723_161_300_000_000
PYTHONS: Final = (sys.base_prefix + "/bin/python3", "/usr/local/bin/python3", "/usr/bin/python3")
HITS: Final = """
from k2.model.decimals_compiled import read_decimal
import numpy as np
assert read_decimal(np.frombuffer(bytearray(b"1.5"), dtype=np.uint8), np.uint64(0), np.uint64(3))[0]
print(sum(read_decimal.stats.cache_hits.values()))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Image:
    """The built folder, and a folder that may be written."""

    def __init__(self, prefix: Path, folder: Path, user: list[str]) -> None:
        self.prefix = prefix
        self.folder = folder
        self._user = user

    @property
    def variables(self) -> dict[str, str]:
        """The variables of the Dockerfile, with these folders."""
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        (line,) = re.findall(r"^ENV (.*)$", text, re.MULTILINE)
        pairs = dict(word.split("=", 1) for word in shlex.split(line))
        pairs = {name: re.sub(r"^/tmp\b", str(self.folder), value) for name, value in pairs.items()}
        moved = {name: value.replace(PREFIX, str(self.prefix)) for name, value in pairs.items()}
        return {**moved, "PATH": moved["PATH"].replace("$PATH", os.defpath)}

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as the image does: as its user, with its variables alone."""
        environment = {"TMPDIR": str(self.folder), **self.variables, **variables}
        own = {name: value for name, value in environment.items() if value}
        return subprocess.run(
            [*self._user, *command], cwd=self.folder, env=own, capture_output=True, text=True, timeout=300, check=False
        )


def _python() -> str:
    """Return a Python that every user can run, with which the image could be built; else the one of these tests."""
    for python in PYTHONS:
        path = Path(python).resolve()
        is_open = path.exists() and all(folder.stat().st_mode & 0o5 == 0o5 for folder in [path, *path.parents])
        code = "import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))"
        if is_open and not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
            return python
    return sys.executable


def _context(folder: Path) -> None:
    """Copy what .dockerignore leaves to the build."""
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    for name in kept:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Build the image's folder, and seal it as an image would."""
    folder = Path(tempfile.mkdtemp(prefix="k2-image-"))
    folder.chmod(0o755)
    prefix, source, writable = folder / "k2", folder / "source", folder / "tmp"
    try:
        _context(source)
        writable.mkdir()
        python = _python()
        own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "NUMBA_", "PYTHON"))}
        build = [str(source / "k8s" / "image" / "build"), str(prefix)]
        done = subprocess.run(
            build, cwd=source, env={**own, "PYTHON": python}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        user: list[str] = []
        if os.geteuid() == 0 and python != sys.executable and shutil.which("setpriv"):
            user = ["setpriv", f"--reuid={IMAGE_USER}", f"--regid={IMAGE_USER}", "--clear-groups"]
            os.chown(writable, IMAGE_USER, IMAGE_USER)
        for path in [prefix, *prefix.rglob("*")]:
            # As the archive of a layer: without fractions of a second.
            if not path.is_symlink():
                os.utime(path, (int(path.stat().st_atime), int(path.stat().st_mtime)))
        yield Image(prefix, writable, user)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(folder)], check=True)
        shutil.rmtree(folder)


def test_the_command_is_there(image: Image) -> None:
    """And has all that its Python modules need."""
    done = image.run("k2", "--help")
    assert done.returncode == 0, done.stderr
    assert "maintain" in done.stdout
    assert image.run("python", "-m", "pip", "check").returncode == 0


def test_no_file_can_be_written(image: Image) -> None:
    """Not by the user of the image; root can write everywhere, but the root file system is read-only then."""
    assert not [path for path in image.prefix.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o222]


def test_a_job_compiles_nothing(image: Image, broker: Broker) -> None:
    """Of canonical messages and of those of Binance, which have a decoder each; all trades are stored."""
    topics = {venue: f"{venue}-{uuid4().hex[:8]}" for venue in ("binance-spot", "k2")}
    settings = {
        "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "K2_TOPICS": ",".join(f"{topic}={venue}" for venue, topic in topics.items()),
        "K2_DATA_DIR": str(image.folder / "data"),
        "K2_METRICS_PORT": "0",
        "K2_RUN_TO_END": "true",
    }
    common = {"exchange": "x", "symbol": "S", "price": "1", "quantity": "2"}
    trades = [{**common, "sequence": number, "timestamp": START_US + number} for number in range(500)]
    captures = {
        "binance-spot": gzip.decompress(CAPTURE.read_bytes()).splitlines()[:2000],
        "k2": [json.dumps(trade).encode() for trade in trades],
    }
    for venue, lines in captures.items():
        capture = image.folder / f"{venue}.ndjson"
        capture.write_bytes(b"\n".join(lines))
        done = image.run("k2", "produce", str(capture), "--topic", topics[venue], **settings)
        assert done.returncode == 0, done.stderr
    done = image.run("k2", "run", "-s", "1", **settings)
    assert done.returncode == 0, done.stderr
    assert '"event": "committed"' in done.stderr
    assert "rules_compil" not in done.stderr
    assert image.run("k2", "reconcile", **settings).returncode == 0


def test_rules_depend_on_the_name_of_the_cpu(image: Image) -> None:
    """With that of the build they are found; with the machine's own name, or any other, they are compiled again."""
    assert int(image.run("python", "-P", "-c", HITS).stdout) > 0
    assert int(image.run("python", "-P", "-c", HITS, NUMBA_CPU_NAME="").stdout) == 0

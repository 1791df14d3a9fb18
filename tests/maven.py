"""Java servers for the tests: Maven downloads their jars once into the user's cache."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

__all__ = ["NotToBeHadError", "jars_of", "run", "version_in"]

MAVEN_SECONDS_MAX: Final = 280.0
JAVA_MIN: Final = 17


class NotToBeHadError(Exception):
    """An external part is not available here; the message says why."""


def run(command: Sequence[str], seconds_max: float) -> str:
    """Run a command and return its output.

    Raises:
        NotToBeHadError: it is absent, fails, or takes too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds_max, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHadError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise NotToBeHadError(f"{command[0]} fails: {(done.stdout + done.stderr).strip()[-600:]}")
    return done.stdout + done.stderr


def version_in(pom: Path, name: str) -> str:
    """Return the version that a pom names in its property `NAME.version`."""
    found = ET.parse(pom).getroot().find(f".//{{*}}{name}.version")  # noqa: S314  our own file
    assert found is not None
    assert found.text is not None
    return found.text


@cache
def jars_of(pom: Path, name: str) -> Path:
    """Return the folder of the jars that a pom requires, cached under the pom's name and version.

    Raises:
        NotToBeHadError: Java (17 or later) or Maven is absent, or Maven cannot bring the jars.
    """
    _check_java()
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache_home) / "k2-trades" / f"{name}-{version_in(pom, name)}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Rename the finished folder into place: two test runs may do this at the same time, and one may be interrupted.
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        jars = Path(temporary) / "libs"
        bring = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        run([*bring, f"-DoutputDirectory={jars}"], seconds_max=MAVEN_SECONDS_MAX)
        if not folder.is_dir():
            jars.rename(folder)
    return folder


def _check_java() -> None:
    for command in ("java", "mvn"):
        if shutil.which(command) is None:
            raise NotToBeHadError(f"there is no {command}")
    said = run(["java", "-XshowSettings:properties", "-version"], seconds_max=30)
    version = next(line.split("=")[1].strip() for line in said.splitlines() if "specification.version" in line)
    if float(version) < JAVA_MIN:
        raise NotToBeHadError(f"Java {JAVA_MIN} or later is needed, this is {version}")

"""What others' checkers say of the manifests and the Dockerfile."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests.environments import environment
from tests.k8s.rendered import FOLDERS, K8S, ROOT, render_text
from tests.maven import NotToBeHadError

PINS: Final = ROOT / "requirements" / "manifest-checks.txt"
VERSIONS: Final = ("1.35", "1.36", "1.37")
"""Minor versions of Kubernetes; docs/kubernetes.md names them."""
ALLOWED: Final = {
    "CKV_K8S_11": "a limit of CPU makes a job fall behind, and a query late, while the machine is idle",
    "CKV_K8S_15": "an image of a fixed version or digest need not be pulled again",
    "CKV_K8S_21": "whoever deploys chooses the namespace",
    "CKV_K8S_35": "PyIceberg and the job read their credentials from the environment",
    "CKV_K8S_43": "whoever deploys builds the image, and so has its digest",
}
"""Checks of checkov that do not hold, and why."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def tools(missing: Callable[[str], NoReturn]) -> Path:
    """Return the folder with the programs of the checkers."""
    try:
        return environment(PINS).parent
    except NotToBeHadError as error:
        missing(f"checkers of manifests ({error})")


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a checker."""
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]) -> list[Path]:
    """Return a file for each folder that can be applied."""
    folder = tmp_path_factory.mktemp("rendered")
    files = [folder / f"{name.replace('/', '-')}.yaml" for name in FOLDERS]
    for name, file in zip(FOLDERS, files, strict=True):
        file.write_text(render_text(K8S / name, missing), encoding="utf-8")
    return files


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(tools: Path, rendered: list[Path], version: str) -> None:
    """By the schemas of each version, in which no other field is allowed; every kind has a schema."""
    done = run(tools / "kubernetes-validate", "-k", version, "--strict", *rendered)
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout
    assert f"against version {version}" in done.stdout


def test_an_unknown_field_is_found(tools: Path, rendered: list[Path], tmp_path: Path) -> None:
    """The check of the versions is strict."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(rendered[0].read_text(encoding="utf-8").replace("periodSeconds", "periodSecs"), encoding="utf-8")
    assert run(tools / "kubernetes-validate", "-k", VERSIONS[0], "--strict", wrong).returncode == 1


def test_checkov_finds_no_fault_but_the_allowed(tools: Path, rendered: list[Path]) -> None:
    """Of the job, its queries and its upkeep, not of the local overlay; and each allowed one is still found."""
    files = [word for file in rendered if "local" not in file.name for word in ("-f", file)]
    options = ["--quiet", "--compact", "--skip-download", "--output", "json", "--framework", "kubernetes"]
    reports = json.loads(run(tools / "checkov", *options, *files).stdout)
    failed: dict[str, set[str]] = {}
    for report in reports if isinstance(reports, list) else [reports]:
        assert report["summary"]["parsing_errors"] == 0
        for check in report["results"]["failed_checks"]:
            failed.setdefault(check["check_id"], set()).add(f"{check['check_name']}: {check['resource']}")
    assert failed.keys() == ALLOWED.keys(), {name: what for name, what in failed.items() if name not in ALLOWED}


def test_the_dockerfile_has_no_fault(tools: Path) -> None:
    """By hadolint and by checkov."""
    done = run(tools / "hadolint", ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout
    checkov = ["--quiet", "--compact", "--skip-download", "--framework", "dockerfile", "-f", ROOT / "Dockerfile"]
    done = run(tools / "checkov", *checkov)
    assert done.returncode == 0, done.stdout

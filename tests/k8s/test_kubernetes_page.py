"""What docs/kubernetes.md shows: its folders, its overlay, and the commands that need no cluster."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
import yaml

from tests.alerts.files import RULES, read
from tests.k8s.rendered import FOLDERS, K8S, ROOT, only, pods, render
from tests.k8s.test_checkers import VERSIONS
from tests.test_docs import FENCE

PAGE: Final = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
APPLIED: Final = re.compile(r"kubectl apply -k (\S+)")
RENDERED: Final = re.compile(r"kubectl kustomize ((?:--\S+ [A-Z]\w+ )?)(\S+)")


def blocks(language: str) -> Iterator[str]:
    """Yield the text of each block in a language."""
    return (match[3] for match in FENCE.finditer(PAGE) if match[1] == language)


def test_commands_render(subtests: pytest.Subtests, missing: Callable[[str], NoReturn]) -> None:
    """Each folder that a command names is one that kustomize renders; all that can be applied are shown."""
    commands = "".join(blocks("console"))
    shown = RENDERED.findall(commands)
    assert len(shown) >= 4
    for options, folder in shown:
        with subtests.test(folder):
            assert render(ROOT / folder, missing, *([options.strip().replace(" ", "=")] if options else []))
    named = {*APPLIED.findall(commands), *(folder for _, folder in shown)}
    assert named == {"k8s/monitoring", *(f"k8s/{folder}" for folder in FOLDERS)}


def test_the_overlay_renders(tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    """The one of the page has its settings in all pods, its image, and one place for the dead letters."""
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = next(text for text in blocks("yaml") if "kind: Kustomization" in text)
    patch = next(text for text in blocks("yaml") if text.startswith("patches:"))
    folder = tmp_path / "k8s" / "overlays" / "mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(overlay + patch, encoding="utf-8")
    objects = render(folder, missing)
    assert {one["metadata"]["namespace"] for one in objects} == {"k2"}
    (settings,) = [one for one in objects if one["kind"] == "ConfigMap"]
    literals = yaml.safe_load(overlay)["configMapGenerator"][0]["literals"]
    assert settings["data"].items() >= dict(literal.split("=", 1) for literal in literals).items()
    for name, template in pods(objects):
        (container,) = template["spec"]["containers"]
        assert container["image"].startswith("registry.example.com/k2-trades@sha256:"), name
        assert {"configMapRef": {"name": settings["metadata"]["name"]}} in container["envFrom"]
    assert "role-arn" in str(only(objects, "ServiceAccount", "k2")["metadata"]["annotations"])


def test_the_prometheus_rule_has_the_rules() -> None:
    """The pipe of the page makes a PrometheusRule of the file."""
    (line,) = [line for text in blocks("console") for line in text.splitlines() if "PrometheusRule" in line]
    command = line.removesuffix(" | kubectl apply -f -")
    assert command != line
    printed = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rule = yaml.safe_load(printed)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == read(RULES)


def test_the_versions_are_those_that_are_validated() -> None:
    """The page names each version of Kubernetes whose schemas are used."""
    assert f"Kubernetes {', '.join(VERSIONS[:-1])} and {VERSIONS[-1]}" in PAGE


def test_folders_are_documented() -> None:
    """The table has each folder of manifests, and no other."""
    listed = {*re.findall(r"^\| `k8s/([\w/-]+)` \|", PAGE, re.MULTILINE)}
    folders = {path.parent.relative_to(K8S).as_posix() for path in K8S.rglob("kustomization.yaml")}
    assert listed == folders

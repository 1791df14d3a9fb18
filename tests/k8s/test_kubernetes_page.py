"""What docs/kubernetes.md shows: its folders, its overlay, and the commands that need no cluster."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

import pytest
import yaml

from k2.ops.settings import read_settings
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
    """The one of the page has its settings and its image in all pods, and the file for Kafka where Kafka is needed."""
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = next(text for text in blocks("yaml") if "kind: Kustomization" in text)
    patch = next(text for text in blocks("yaml") if text.startswith("patches:"))
    mine = tmp_path / "k8s" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay + patch, encoding="utf-8")
    objects = render(mine, missing)
    assert {one["metadata"]["namespace"] for one in objects} == {"k2"}
    (settings,) = [one for one in objects if one["kind"] == "ConfigMap"]
    literals = yaml.safe_load(overlay)["configMapGenerator"][0]["literals"]
    assert settings["data"].items() >= dict(literal.split("=", 1) for literal in literals).items()
    for name, template in pods(objects):
        (container,) = template["spec"]["containers"]
        assert container["image"].startswith("registry.example.com/k2-trades@sha256:"), name
        assert {"configMapRef": {"name": settings["metadata"]["name"]}} in container["envFrom"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        folder = str(Path(settings["data"]["K2_KAFKA_CONFIG"]).parent)
        assert (folder in mounts) is ("CronJob" not in name)
    assert "role-arn" in str(only(objects, "ServiceAccount", "k2")["metadata"]["annotations"])


def test_dead_letters_in_an_object_store_need_no_volume(tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    """Without the component and with the setting of the page, pods have nothing but what may be lost."""
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / "overlays" / "query" / "kustomization.yaml"
    (setting,) = [text for text in blocks("yaml") if "K2_DLQ_DIR" in text]
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if "dead-letters-volume" not in line)
    file.write_text(kept + setting, encoding="utf-8")
    objects = render(file.parent, missing)
    assert not [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    (settings,) = [one["data"] for one in objects if one["kind"] == "ConfigMap"]
    assert read_settings(settings).dead_letter_address == "s3://trades/dlq"
    assert {kind for _, template in pods(objects) for volume in template["spec"]["volumes"] for kind in volume} == {
        "name",
        "emptyDir",
    }


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

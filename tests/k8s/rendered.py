"""The manifests as kustomize renders them."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

import yaml

__all__ = ["FOLDERS", "K8S", "ROOT", "kustomize", "only", "pods", "render", "render_text"]

ROOT: Final = Path(__file__).parents[2]
K8S: Final = ROOT / "k8s"
FOLDERS: Final = ("base", "overlays/cluster", "overlays/local", "overlays/query")
"""What can be applied."""
PODS: Final = {
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "Deployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
}
"""Where the template of the pods is, by kind."""


@cache
def kustomize() -> tuple[str, ...]:
    """Return the command that renders a folder; empty if there is none."""
    # Debian's kubectl has no such command.
    asked = ["kubectl", "kustomize", "--help"]
    if shutil.which("kubectl") and subprocess.run(asked, capture_output=True, check=False).returncode == 0:
        return ("kubectl", "kustomize")
    return ("kustomize", "build") if shutil.which("kustomize") else ()


def render_text(folder: Path, missing: Callable[[str], NoReturn], *options: str) -> str:
    """Return the rendered folder as YAML."""
    if not kustomize():
        missing("kubectl or kustomize")
    done = subprocess.run([*kustomize(), *options, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # kustomize warns of fields that a later version drops.
    assert not done.stderr, done.stderr
    return done.stdout


def render(folder: Path, missing: Callable[[str], NoReturn], *options: str) -> list[dict[str, Any]]:
    """Return the objects of the rendered folder."""
    return [*yaml.safe_load_all(render_text(folder, missing, *options))]


def only(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """Return the one object of that kind and name."""
    (found,) = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and name of each workload with the template of its pods."""
    for one in objects:
        if one["kind"] in PODS:
            template = one
            for key in PODS[one["kind"]]:
                template = template[key]
            yield f"{one['kind']} {one['metadata']['name']}", template

"""The manifests are valid, sealed, and consistent with the job and with one another."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
import yaml

from k2.cli.cluster import check_cluster_options
from k2.ops.settings import read_settings
from tests.alerts.files import alerts
from tests.k8s.rendered import FOLDERS, K8S, ROOT, only, pods, render

OURS: Final = "k2-trades"
JOB: Final = {"app.kubernetes.io/name": "k2-trades", "app.kubernetes.io/component": "job"}
UNITS: Final = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}$")


@pytest.fixture(params=FOLDERS)
def objects(request: pytest.FixtureRequest, missing: Callable[[str], NoReturn]) -> list[dict[str, Any]]:
    """Return the objects of each folder that can be applied."""
    return render(K8S / request.param, missing)


def scaled(tmp_path: Path, processes: int) -> Path:
    """Return a copy of the cluster's overlay in which one value is another one."""
    shutil.copytree(K8S, tmp_path / "k8s")
    size = tmp_path / "k8s" / "overlays" / "cluster" / "size.yaml"
    text, count = re.subn(r'(?<=processes: )"3"', f'"{processes}"', size.read_text(encoding="utf-8"))
    assert count == 1
    size.write_text(text, encoding="utf-8")
    return size.parent


@pytest.mark.parametrize("processes", [1, 3, 5])
def test_the_number_of_processes_is_one_value(
    tmp_path: Path, missing: Callable[[str], NoReturn], processes: int
) -> None:
    """It sets the replicas and the list of hosts, from which each process has its cluster, and the alert its limit."""
    stateful_set = only(render(scaled(tmp_path, processes), missing), "StatefulSet", "k2")
    assert stateful_set["spec"]["replicas"] == processes
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    fake = tmp_path / "bin" / "k2"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    path = f"{fake.parent}:{os.environ['PATH']}"
    command = [*container["command"], *container["args"]]
    words = subprocess.run(command, env={**environment, "PATH": path}, capture_output=True, text=True, check=True)
    *options, addresses = words.stdout.splitlines()
    assert options == ["run", "--supervise", "-a"]
    assert addresses.split(";") == [f"k2-{number}.k2:2101" for number in range(processes)]
    for number in range(processes):
        # What `k2_processes` exports, with which the alert compares the number of processes that it can scrape.
        assert check_cluster_options(number, addresses).processes == processes
    assert alerts()["K2ProcessesMissing"]["expr"] == "count by (job) (k2_processes) < max by (job) (k2_processes)"


def test_a_change_of_the_number_changes_nothing_else(tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    """Nor does the number of writers follow it, which is fixed when the table is created."""
    three, five = (render(scaled(tmp_path / str(number), number), missing) for number in (3, 5))
    (template,) = [template for name, template in pods(five) if name == "StatefulSet k2"]
    only(five, "StatefulSet", "k2")["spec"]["replicas"] = 3
    (processes,) = [one for one in template["spec"]["containers"][0]["env"] if one["name"] == "PROCESSES"]
    processes["value"] = "3"
    assert three == five


def test_processes_of_a_cluster_start_and_stop_together(missing: Callable[[str], NoReturn]) -> None:
    """They wait for each other, so they start at once, find each other unready, and are not replaced one by one."""
    objects = render(K8S / "overlays/cluster", missing)
    stateful_set = only(objects, "StatefulSet", "k2")["spec"]
    assert stateful_set["podManagementPolicy"] == "Parallel"
    assert stateful_set["updateStrategy"] == {"type": "OnDelete"}
    service = only(objects, "Service", stateful_set["serviceName"])["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    variables = stateful_set["template"]["spec"]["containers"][0]["env"]
    numbers = [one["valueFrom"] for one in variables if "valueFrom" in one]
    assert numbers == [{"fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}]


def test_settings_are_those_of_the_job(objects: list[dict[str, Any]]) -> None:
    """Each workload gets settings that the job accepts, and no variables of Kubernetes that look like settings."""
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    for name, template in pods(objects):
        assert template["spec"]["enableServiceLinks"] is False, name
        for container in template["spec"]["containers"]:
            values = {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    values = {**maps[source["configMapRef"]["name"]], **values}
            settings = read_settings(values)
            if OURS in container["image"]:
                assert settings.query_memory_limit_bytes <= _bytes(container["resources"]["limits"]["memory"]) / 2, name
                mounts = {one["mountPath"] for one in container["volumeMounts"]}
                assert str(settings.data_dir) in mounts, name
                if template["metadata"]["labels"]["app.kubernetes.io/component"] != "upkeep":
                    assert str(settings.dead_letter_folder) in mounts, name


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def test_no_secret_is_in_a_manifest(objects: list[dict[str, Any]]) -> None:
    """Secrets are referred to; the example of their names has no value."""
    assert not [one for one in objects if one["kind"] == "Secret"]
    lines = (K8S / "job" / "secret.example.env").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or line.endswith("=") for line in lines)


def test_pods_keep_the_restricted_standard(objects: list[dict[str, Any]]) -> None:
    """Those of Kubernetes' Pod Security Standard `restricted`, no token, and for our own image a read-only root."""
    for name, template in pods(objects):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}, name
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume} - {"name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim"}, name
        for container in pod["containers"]:
            sealed = container["securityContext"]
            assert sealed["allowPrivilegeEscalation"] is False, name
            assert sealed["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            if OURS in container["image"]:
                assert sealed["readOnlyRootFilesystem"] is True, name


def test_images_are_fixed(objects: list[dict[str, Any]]) -> None:
    """Ours is of this version until its digest is set; others, also that of the Dockerfile, are pinned by digest."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for name, template in pods(objects):
        for container in template["spec"]["containers"]:
            image = container["image"]
            assert image == f"{OURS}:{version}" or DIGEST.search(image), f"{name}: {image}"
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    names = {name for _, name in stages}
    assert len(stages) > 1
    assert all(DIGEST.search(image) or image in names for image, _ in stages)


def test_compose_is_consistent() -> None:
    """It has the images and the settings of the local overlay, and no secret."""
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    local = "".join(path.read_text(encoding="utf-8") for path in (K8S / "overlays" / "local").glob("*.yaml"))
    services = compose["services"]
    for name, service in services.items():
        image = service["image"]
        if image.startswith(OURS):
            read_settings(service["environment"])
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
        else:
            digest = DIGEST.search(image)
            assert digest, f"{name}: {image}"
            assert name == "prometheus" or digest.group() in local
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    flags = {*services["store"]["command"]}
    assert all(f"- {flag}\n" in local for flag in flags)
    config = yaml.safe_load((K8S / "monitoring" / "prometheus.yaml").read_text(encoding="utf-8"))
    targets = [job["static_configs"][0]["targets"][0].split(":")[0] for job in config["scrape_configs"]]
    assert {*targets} <= services.keys()


def test_prometheus_accepts_the_configuration_of_compose(missing: Callable[[str], NoReturn]) -> None:
    """`promtool check config` finds no fault."""
    if shutil.which("promtool") is None:
        missing("promtool of Prometheus")
    command = ["promtool", "check", "config", "--syntax-only", str(K8S / "monitoring" / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_job_is_not_scaled_automatically(objects: list[dict[str, Any]]) -> None:
    """A change of its number of processes stops all of them; only the queries scale."""
    scaled_ones = [one["spec"]["scaleTargetRef"]["name"] for one in objects if "Autoscaler" in one["kind"]]
    assert {*scaled_ones} <= {"k2-query"}
    assert not [one for one in objects if one["apiVersion"].startswith("keda.sh")]


def test_probes_use_the_port_of_the_health_endpoints(objects: list[dict[str, Any]]) -> None:
    """Never the port of the cluster. Liveness outlasts a restart, and in a cluster the wait for peers."""
    (pod,) = [template["spec"] for name, template in pods(objects) if name == "StatefulSet k2"]
    (container,) = pod["containers"]
    probes = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"metrics"}
    assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    seconds = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in probes.items()}
    assert seconds["startup"] >= 600
    has_peers = any(port["name"] == "cluster" for port in container["ports"])
    assert seconds["liveness"] >= (600 if has_peers else 180)


def test_ports_are_fenced(objects: list[dict[str, Any]]) -> None:
    """The port of a cluster is for the job's pods alone, that of the metrics for the namespace of Prometheus."""
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    peers = {"podSelector": {"matchLabels": JOB}}
    policy = only(objects, "NetworkPolicy", "k2")["spec"]
    assert policy["podSelector"] == {"matchLabels": JOB}
    assert policy["policyTypes"] == ["Ingress"]
    (pod,) = [template for name, template in pods(objects) if name == "StatefulSet k2"]
    assert pod["metadata"]["labels"] == JOB
    rules = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert all(len(rule["ports"]) == 1 for rule in policy["ingress"])
    (container,) = pod["spec"]["containers"]
    expected = {"metrics": [monitoring], "cluster": [peers]}
    assert rules == {port["name"]: expected[port["name"]] for port in container["ports"]}


def test_upkeep_never_runs_twice_at_a_time(missing: Callable[[str], NoReturn]) -> None:
    """Each command of `k2 maintain` but `all` has a schedule; removing days is off until somebody chooses a number."""
    objects = render(K8S / "overlays/cluster", missing)
    jobs = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "CronJob"}
    assert all(spec["concurrencyPolicy"] == "Forbid" for spec in jobs.values())
    assert {name for name, spec in jobs.items() if spec["suspend"]} == {"k2-retain"}
    commands = [spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"][:2] for spec in jobs.values()]
    assert sorted(commands) == [["maintain", name] for name in ("compact", "expire", "orphans", "retain")]


def test_monitors_give_each_part_a_job_label(missing: Callable[[str], NoReturn]) -> None:
    """Prometheus Operator names the label after the monitor; the ports are those of the pods."""
    monitoring = render(K8S / "monitoring", missing, "--load-restrictor=LoadRestrictionsNone")
    dashboard = only(monitoring, "ConfigMap", "k2-dashboard")["data"]["k2-trades.json"]
    assert dashboard == (K8S / "dashboard.json").read_text(encoding="utf-8")
    templates = [template for _, template in pods(render(K8S / "overlays/query", missing))]
    for monitor in (one["spec"] for one in monitoring if one["kind"] == "PodMonitor"):
        (template,) = [one for one in templates if one["metadata"]["labels"] == monitor["selector"]["matchLabels"]]
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert monitor["podMetricsEndpoints"][0]["port"] in ports

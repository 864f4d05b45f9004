"""The Kubernetes manifests: valid, locked down, consistent, with configurations that pass their service's check."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import nkeys  # type: ignore[import-untyped]
import pytest
import yaml

from integration.kustomization import MERGE_KEYS, Resource, render
from ssmd_common.nats.testing import issued
from ssmd_manifest_api.config import load_calendars
from ssmd_simulator.keys import KEY_ID_FILE, PRIVATE_KEY_FILE, own_key

OVERLAYS = Path(__file__).parents[2] / "deploy/kubernetes/overlays"
NAMES = ("development", "production")
# What docs/operations.md asks to be made by hand.
MADE_BY_HAND = {"kalshi-key", "nats-connector", "nats-archiver", "nats-administrator", "nats-ca"}
MOUNTED = "/etc/ssmd"

pytestmark = pytest.mark.parametrize("overlay", NAMES)


@pytest.fixture
def resources(overlay: str) -> list[Resource]:
    return render(OVERLAYS / overlay)


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Yield every pod template with the name of its owner."""
    for resource in resources:
        template = resource.get("spec", {}).get("template")
        if template is not None:
            yield f"{resource['kind']}/{resource['metadata']['name']}", template


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] == kind}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    return all(
        labels.get(expression["key"]) in expression["values"] for expression in selector.get("matchExpressions", ())
    )


@pytest.mark.parametrize("version", ["1.27", "1.30", kubernetes_validate.latest_version()])
def test_every_resource_fits_the_schemas_of_kubernetes(resources: list[Resource], version: str) -> None:
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_no_name_is_given_twice_and_all_lie_in_one_namespace(resources: list[Resource], overlay: str) -> None:
    names = [(resource["kind"], resource["metadata"]["name"]) for resource in resources]
    assert len(names) == len(set(names))
    namespace = "ssmd" if overlay == "production" else "ssmd-development"
    for resource in resources:
        if resource["kind"] != "Namespace":
            assert resource["metadata"]["namespace"] == namespace
    assert list(of_kind(resources, "Namespace")) == [namespace]


def test_no_pod_is_root_or_writes_its_root_or_gains_rights(resources: list[Resource]) -> None:
    for owner, template in pods(resources):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False, owner
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, owner
        assert security["runAsUser"] >= 10000, owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), owner
        assert not any("hostPath" in volume for volume in spec.get("volumes", ())), owner
        for container in spec["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True, owner
            assert own["allowPrivilegeEscalation"] is False, owner
            assert own["capabilities"] == {"drop": ["ALL"]}, owner
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, owner
            assert "memory" in container["resources"]["limits"], owner


def test_every_service_is_probed_and_ends_within_its_grace(resources: list[Resource]) -> None:
    for owner, template in pods(resources):
        if owner.startswith("Job/"):
            continue
        assert template["spec"]["terminationGracePeriodSeconds"] >= 10, owner
        for container in template["spec"]["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                [how] = container[probe].keys() & {"httpGet", "tcpSocket"}
                assert container[probe][how]["port"] in ports, (owner, probe)


def test_the_connector_is_one_and_never_two(resources: list[Resource]) -> None:
    spec = of_kind(resources, "Deployment")["connector"]["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}
    assert of_kind(resources, "StatefulSet")["archiver"]["spec"]["replicas"] == 1


def test_the_api_reads_the_archivers_volume_and_cannot_write_it(resources: list[Resource]) -> None:
    claims = of_kind(resources, "StatefulSet")["archiver"]["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == ["archive"]
    spec = of_kind(resources, "Deployment")["manifest-api"]["spec"]["template"]["spec"]
    [archive] = [volume for volume in spec["volumes"] if volume["name"] == "archive"]
    assert archive["persistentVolumeClaim"] == {"claimName": "archive-archiver-0", "readOnly": True}
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert mounts["archive"]["readOnly"] is True


def test_selectors_ports_and_budgets_meet_their_pods(resources: list[Resource]) -> None:
    labelled = [(owner, template["metadata"]["labels"], template["spec"]) for owner, template in pods(resources)]
    for resource in resources:
        name, spec = resource["metadata"]["name"], resource.get("spec", {})
        if resource["kind"] in ("Deployment", "StatefulSet"):
            assert selects(spec["selector"], spec["template"]["metadata"]["labels"]), name
        elif resource["kind"] == "PodDisruptionBudget":
            assert any(selects(spec["selector"], labels) for _, labels, _ in labelled), name
        elif resource["kind"] == "Service":
            [pod] = [pod for _, labels, pod in labelled if selects({"matchLabels": spec["selector"]}, labels)]
            offered = {port["name"] for container in pod["containers"] for port in container["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= offered, name
        elif resource["kind"] == "HorizontalPodAutoscaler":
            assert spec["scaleTargetRef"]["name"] in of_kind(resources, "Deployment")
            assert "replicas" not in of_kind(resources, "Deployment")[spec["scaleTargetRef"]["name"]]["spec"]
    for owner, labels, _ in labelled:
        policies = of_kind(resources, "NetworkPolicy")
        assert selects(policies["deny-all"]["spec"]["podSelector"], labels), owner


def allowed_ports(resources: list[Resource], direction: str, labels: dict[str, str]) -> set[int]:
    policies = of_kind(resources, "NetworkPolicy").values()
    rules = [
        rule
        for policy in policies
        if selects(policy["spec"]["podSelector"], labels)
        for rule in policy["spec"].get(direction, ())
    ]
    # A rule without ports would allow every port.
    return {port["port"] for rule in rules for port in rule["ports"]}


def test_every_pod_may_speak_where_it_has_to_and_nowhere_else(resources: list[Resource], overlay: str) -> None:
    names, nats, exchange, otlp = 53, 4222, 443, 4318
    simulator = {8765} if overlay == "development" else set()
    wanted = {
        "connector": ({9090}, {names, nats, exchange, otlp} | simulator),
        "archiver": ({9090}, {names, nats, otlp}),
        "manifest-api": ({8080}, {names, otlp}),
        "create-stream": (set(), {names, nats}),
        "simulator": (simulator, set()),
        "nats": ({nats}, set()),
    }
    for owner, template in pods(resources):
        labels = template["metadata"]["labels"]
        told = tuple(allowed_ports(resources, direction, labels) for direction in ("ingress", "egress"))
        assert told == wanted[owner.partition("/")[2]], owner


def test_a_job_is_gone_before_another_version_would_have_to_change_it(resources: list[Resource]) -> None:
    for name, job in of_kind(resources, "Job").items():
        assert job["spec"]["ttlSecondsAfterFinished"] <= 300, name


def test_a_node_can_be_drained(resources: list[Resource]) -> None:
    for name, budget in of_kind(resources, "PodDisruptionBudget").items():
        assert budget["spec"]["maxUnavailable"] == 1, name


def test_secrets_are_named_and_never_held(resources: list[Resource]) -> None:
    assert of_kind(resources, "Secret") == {}
    config_maps = of_kind(resources, "ConfigMap")
    for owner, template in pods(resources):
        for volume in template["spec"].get("volumes", ()):
            secret, config = volume.get("secret"), volume.get("configMap")
            if secret is not None:
                assert secret["secretName"] in MADE_BY_HAND, owner
                assert secret["defaultMode"] == 0o440, owner
            if config is not None:
                assert config["name"] in config_maps.keys() | MADE_BY_HAND, owner
        mounted = {m["name"] for c in template["spec"]["containers"] for m in c.get("volumeMounts", ())}
        offered = {volume["name"] for volume in template["spec"].get("volumes", ())}
        assert mounted <= offered | {"archive", "store"}, owner


def lay_out(resources: list[Resource], pod: Resource, root: Path) -> None:
    """Put a pod's ConfigMaps and secrets below ``root``, which stands for the pod's ``/etc/ssmd``."""
    config_maps = of_kind(resources, "ConfigMap")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        folder = root / str(Path(mount["mountPath"]).relative_to("/"))
        volume = volumes.get(mount["name"], {})
        folder.mkdir(parents=True, exist_ok=True)
        if "configMap" in volume and volume["configMap"]["name"] in config_maps:
            for name, text in config_maps[volume["configMap"]["name"]]["data"].items():
                (folder / name).write_text(text.replace(MOUNTED, f"{root}{MOUNTED}"), "utf-8")
        elif mount["name"] == "kalshi-key":
            own_key(folder)
            (folder / KEY_ID_FILE).rename(folder / "api_key")
            (folder / PRIVATE_KEY_FILE).rename(folder / "private_key")
        elif mount["name"] == "nats-key":
            (folder / "nkey-seed").write_bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
        elif mount["name"] == "nats-ca":
            issued(folder, "ca")


@pytest.mark.parametrize(
    ("kind", "name", "package"),
    [("Deployment", "connector", "ssmd_connector"), ("StatefulSet", "archiver", "ssmd_archiver")],
)
def test_what_a_pod_mounts_passes_its_services_check(
    resources: list[Resource], tmp_path: Path, kind: str, name: str, package: str
) -> None:
    pod = of_kind(resources, kind)[name]["spec"]["template"]["spec"]
    lay_out(resources, pod, tmp_path)
    [container] = pod["containers"]
    arguments = [argument.replace(MOUNTED, f"{tmp_path}{MOUNTED}") for argument in container["args"]]
    position = arguments.index("--health-addr")
    assert arguments[position + 1] == "0.0.0.0:9090"
    del arguments[position : position + 2]
    command = [sys.executable, "-c", f"from {package}.cli import main; main()", "check", *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KALSHI_")}
    path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    done = subprocess.run(  # noqa: S603 - our own program
        command, env=kept | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout.lower(), done.stdout


def test_the_api_knows_the_calendars_of_the_feeds(resources: list[Resource], tmp_path: Path) -> None:
    pod = of_kind(resources, "Deployment")["manifest-api"]["spec"]["template"]["spec"]
    lay_out(resources, pod, tmp_path)
    arguments = pod["containers"][0]["args"]
    folder = arguments[arguments.index("--feeds") + 1]
    assert "kalshi" in load_calendars(tmp_path / folder.removeprefix("/"))


def test_the_archiver_reads_what_the_connector_publishes(resources: list[Resource]) -> None:
    config_maps = of_kind(resources, "ConfigMap")
    environment = yaml.safe_load(config_maps["connector-config"]["data"]["environment.yaml"])
    archiver = yaml.safe_load(config_maps["archiver-config"]["data"]["archiver.yaml"])
    assert archiver["nats"]["stream"] == environment["transport"]["stream"]
    assert archiver["nats"]["url"] == environment["transport"]["url"]
    assert archiver["nats"]["filter"] == f"{environment['env']}.{environment['feed']}.json.>"
    assert archiver["storage"]["path"] == "/data"
    assert environment["limits"]["spool_dir"].startswith("/data/")


def test_kubectl_renders_the_same(resources: list[Resource], overlay: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None or _kustomize_version(kubectl) < 5:
        pytest.skip("no kubectl with kustomize 5 or newer here; the renderer of these tests stands for it")
    done = subprocess.run(  # noqa: S603 - kubectl renders files, it contacts nobody
        [kubectl, "kustomize", str(OVERLAYS / overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs = [_plain(resource) for resource in yaml.safe_load_all(done.stdout)]
    ours = [_plain(resource) for resource in resources]
    assert sorted(theirs, key=json.dumps) == sorted(ours, key=json.dumps)


def _kustomize_version(kubectl: str) -> int:
    done = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - kubectl
    found = re.search(r"Kustomize Version: v(\d+)", done.stdout)
    return int(found[1]) if found else 0


def _plain(node: Any, *, key: str = "") -> Any:
    """Bring what may differ in form into one: hashes of generated names, order in lists matched by name."""
    if isinstance(node, dict):
        return {name: _plain(node[name], key=name) for name in sorted(node)}
    if isinstance(node, list):
        elements = [_plain(element) for element in node]
        return (
            sorted(elements, key=lambda element: str(element[MERGE_KEYS[key]]))
            if key in MERGE_KEYS
            and all(isinstance(element, dict) and MERGE_KEYS[key] in element for element in elements)
            else elements
        )
    if isinstance(node, str) and key == "name":
        return re.sub(r"^(feeds|[a-z]+-config)-[a-z0-9]{10}$", r"\1", node)
    return node

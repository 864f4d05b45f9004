"""Renders the kustomizations of ``deploy/kubernetes`` without ``kubectl``: what they use of it, and no more.

That this agrees with ``kubectl kustomize`` is a test wherever there is one. Names of generated ConfigMaps carry no
hash here.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

__all__ = ["MERGE_KEYS", "Resource", "render"]

Resource = dict[str, Any]

MERGE_KEYS = {
    "containers": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""How the elements of a list are matched in a strategic merge; other lists are replaced."""

_CLUSTER_WIDE = ("Namespace",)
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "patches", "images"}


def render(folder: Path) -> list[Resource]:
    """Return the resources of a kustomization.

    Raises:
        ValueError: It asks for something this renderer does not know, or patches what is not there.
    """
    told = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    unknown = told.keys() - _KNOWN
    if unknown:
        raise ValueError(f"{folder}: {', '.join(sorted(unknown))}")
    resources: list[Resource] = []
    for name in told.get("resources", ()):
        path = folder / name
        resources += render(path) if path.is_dir() else _documents(path)
    for generated in told.get("configMapGenerator", ()):
        resources.append(_config_map(folder, generated))
    for patch in told.get("patches", ()):
        for document in _documents(folder / patch["path"]):
            _patch(resources, document, where=str(folder / patch["path"]))
    tags = {image["name"]: image["newTag"] for image in told.get("images", ())}
    for resource in resources:
        if "namespace" in told and resource["kind"] not in _CLUSTER_WIDE:
            resource["metadata"]["namespace"] = told["namespace"]
        _tag(resource, tags)
    return resources


def _documents(path: Path) -> list[Resource]:
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]


def _config_map(folder: Path, generated: dict[str, Any]) -> Resource:
    data = {}
    for entry in generated["files"]:
        key, _, name = entry.rpartition("=")
        path = folder / name
        data[key or path.name] = path.read_text("utf-8")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": data}


def _identity(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


def _patch(resources: list[Resource], patch: Resource, *, where: str) -> None:
    for index, resource in enumerate(resources):
        if _identity(resource) == _identity(patch):
            resources[index] = _merged(resource, patch)
            return
    raise ValueError(f"{where}: nothing is called {_identity(patch)}")


def _merged(base: Resource, patch: Resource) -> Resource:
    result = copy.deepcopy(base)
    for name, value in patch.items():
        old = result.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            result[name] = _merged(old, value)
        elif isinstance(value, list) and isinstance(old, list) and name in MERGE_KEYS:
            result[name] = _merged_list(old, value, MERGE_KEYS[name])
        else:
            result[name] = copy.deepcopy(value)
    return result


def _merged_list(old: list[Resource], new: list[Resource], key: str) -> list[Resource]:
    merged = {element[key]: element for element in old}
    for element in new:
        merged[element[key]] = _merged(merged.get(element[key], {}), element)
    return list(merged.values())


def _tag(node: object, tags: dict[str, str]) -> None:
    if isinstance(node, dict):
        if node.get("image") in tags:
            node["image"] += f":{tags[node['image']]}"
        for value in node.values():
            _tag(value, tags)
    elif isinstance(node, list):
        for value in node:
            _tag(value, tags)

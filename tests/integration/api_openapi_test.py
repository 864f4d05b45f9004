"""The API does what its OpenAPI document says: schemathesis asks every route, with values of all kinds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from integration.api_server import Server, serving
from ssmd_common.service.telemetry import Metrics
from ssmd_manifest_api.app import SERVICE, create_app
from ssmd_manifest_api.auth import hash_token, new_token
from ssmd_manifest_api.conftest import write_sample

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
KNOWN = {"feed": "kalshi", "date": "2026-11-23", "name": "0615.jsonl.gz"}


_DOCUMENT = create_app(Path("nowhere"), metrics=Metrics(SERVICE)).openapi()


def _operations(document: dict[str, Any]) -> dict[str, Any]:
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]  # type: ignore[union-attr]  # a document of ours is valid
    return {operation.path: operation for operation in found}


OPERATIONS = _operations(_DOCUMENT)
WITH_PARAMETERS = [path for path in OPERATIONS if "parameters" in _DOCUMENT["paths"][path]["get"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a generated archive."""
    folder = tmp_path_factory.mktemp("openapi")
    with serving(write_sample(folder / "archive"), folder / "api.log") as running:
        yield running


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    _run_schemathesis(server, tmp_path)


def _run_schemathesis(server: Server, folder: Path, *options: str) -> None:
    words = ["run", f"{server.url}/openapi.json", "--max-examples", "25", "--seed", "7", "--max-failures", "20"]
    done = subprocess.run(  # noqa: S603 - a program of ours
        [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *words, *options],
        cwd=folder, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert f"{len(OPERATIONS)} selected / {len(OPERATIONS)} total" in done.stdout


def test_schemathesis_finds_nothing_where_a_token_is_needed(tmp_path: Path) -> None:
    token = new_token()
    config = tmp_path / "api.yaml"
    config.write_text(
        f"tokens: [{{name: test, sha256: {hash_token(token)}, feeds: [kalshi]}}]\n"
        f"cors_origins: [https://charts.example.org]\n"
    )
    with serving(write_sample(tmp_path / "archive"), tmp_path / "api.log", "--config", str(config)) as running:
        _run_schemathesis(running, tmp_path, "--header", f"Authorization: Bearer {token}")


@pytest.mark.parametrize("path", WITH_PARAMETERS)
def test_every_route_answers_as_documented_about_what_is_there(path: str, server: Server) -> None:
    @SETTINGS
    @given(OPERATIONS[path].as_strategy(generation_mode=GenerationMode.POSITIVE))
    def ask(case: schemathesis.Case[Any]) -> None:
        for name in KNOWN.keys() & (case.path_parameters or {}).keys():
            case.path_parameters[name] = KNOWN[name]
        case.call_and_validate(base_url=server.url)

    ask()


def test_a_route_that_breaks_its_word_would_be_found(server: Server) -> None:
    document = create_app(Path("nowhere"), metrics=Metrics(SERVICE)).openapi()
    content = document["paths"]["/manifests"]["get"]["responses"]["200"]["content"]
    content["application/json"]["schema"] = {"type": "array"}
    with pytest.raises(schemathesis.core.failures.FailureGroup):
        _operations(document)["/manifests"].Case().call_and_validate(base_url=server.url)


@pytest.mark.parametrize("path", OPERATIONS)
def test_every_route_has_examples_that_fit_its_schema(path: str) -> None:
    operation = _DOCUMENT["paths"][path]["get"]
    for media, content in operation["responses"]["200"]["content"].items():
        if media != "application/gzip":
            schema = {**content["schema"], "components": _DOCUMENT["components"]}
            assert jsonschema_rs.is_valid(schema, content["example"])
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            assert {*parameter["schema"].get("examples", ()), *parameter.get("examples", ())}

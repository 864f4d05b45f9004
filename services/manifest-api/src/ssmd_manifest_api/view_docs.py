"""The OpenAPI document as a page's sections: operations by tag, each with a request to try; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

__all__ = ["Answer", "Field", "Operation", "Parameter", "Section", "sections"]

_ORDER = ("manifests", "files", "records", "gaps", "conditions", "service")
_TITLES = {"service": "The service itself"}
_METHODS = ("get", "put", "post", "delete", "patch")
_SHELL_SAFE = re.compile(r"[A-Za-z0-9_./:@%+=,-]+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation; ``place`` is path, query or header."""

    name: str
    place: str
    kind: str
    required: bool
    description: str


@dataclass(frozen=True, slots=True)
class Field:
    """A member of an answer's document."""

    name: str
    kind: str
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One status an operation can answer with."""

    status: str
    description: str
    media: str
    fields: list[Field]


@dataclass(frozen=True, slots=True)
class Operation:
    """A route and how to call it."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: list[Parameter]
    answers: list[Answer]
    command: str
    try_url: str


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of a tag."""

    anchor: str
    title: str
    operations: list[Operation]


def sections(document: Mapping[str, Any], *, base_url: str, known: Mapping[str, str]) -> list[Section]:
    """Return the sections of a page on an API.

    Args:
        document: Its OpenAPI document.
        base_url: Where it is served, without a slash at the end.
        known: Values of path parameters that exist in this archive, by name; examples stand in for others.
    """
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                tag = (operation.get("tags") or ["service"])[0]
                found.setdefault(tag, []).append(_operation(document, path, method, operation, base_url, known))
    rank = {tag: at for at, tag in enumerate(_ORDER)}
    tags = sorted(found, key=lambda tag: (rank.get(tag, len(_ORDER)), tag))
    return [Section(f"tag-{tag}", _TITLES.get(tag, tag.capitalize()), found[tag]) for tag in tags]


def _operation(
    document: Mapping[str, Any],
    path: str,
    method: str,
    operation: Mapping[str, Any],
    base_url: str,
    known: Mapping[str, str],
) -> Operation:
    summary, _, rest = operation.get("description", "").partition("\n\n")
    parameters = [_resolved(document, parameter) for parameter in operation.get("parameters", [])]
    target = _target(path, parameters, known)
    return Operation(
        anchor=operation.get("operationId", f"{method}{path}"),
        method=method.upper(),
        path=path,
        summary=summary or operation.get("summary", ""),
        description=rest,
        parameters=[
            Parameter(
                name=parameter["name"],
                place=parameter["in"],
                kind=_kind(document, parameter.get("schema", {})).removesuffix(" or null"),  # no request says null
                required=parameter.get("required", False),
                description=parameter.get("description", ""),
            )
            for parameter in parameters
        ],
        answers=[
            _answer(document, status, _resolved(document, answer))
            for status, answer in sorted(operation["responses"].items())
        ],
        command=_command(method, base_url + target, operation),
        try_url=target if method == "get" else "",
    )


def _target(path: str, parameters: list[Mapping[str, Any]], known: Mapping[str, str]) -> str:
    """Return a path and query that can be asked for."""
    query: dict[str, str] = {}
    for parameter in parameters:
        name = parameter["name"]
        if parameter["in"] == "path":
            value = known.get(name) or _example(parameter) or name
            path = path.replace("{" + name + "}", quote(value, safe=""))
        elif parameter["in"] == "query" and parameter.get("required"):
            query[name] = known.get(name) or _example(parameter) or name
    return f"{path}?{urlencode(query)}" if query else path


def _example(parameter: Mapping[str, Any]) -> str:
    schema = parameter.get("schema", {})
    for value in (parameter.get("example"), *_examples(parameter), schema.get("example"), *_examples(schema)):
        if value is not None:
            return str(value)
    return ""


def _examples(holder: Mapping[str, Any]) -> list[Any]:
    examples = holder.get("examples", [])
    return [part.get("value") for part in examples.values()] if isinstance(examples, dict) else list(examples)


def _command(method: str, url: str, operation: Mapping[str, Any]) -> str:
    words = ["curl"]
    media = [kind for answer in operation["responses"].values() for kind in answer.get("content", {})]
    if "application/gzip" in media:
        words.append("-O")
    elif "application/x-ndjson" in media:
        words.append("-sN")
    else:
        words.append("-s")
    if method != "get":
        words += ["-X", method.upper()]
    words.append(url if _SHELL_SAFE.fullmatch(url) else f"'{url}'")
    return " ".join(words)


def _answer(document: Mapping[str, Any], status: str, answer: Mapping[str, Any]) -> Answer:
    contents: dict[str, Any] = answer.get("content", {})
    media = next(iter(contents), "")
    fields = list(_fields(document, contents.get(media, {}).get("schema", {}))) if status.startswith("2") else []
    description = answer.get("description", "").replace("Successful Response", "The answer")
    return Answer(status, description, media, fields)


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Field]:
    """Go through the members of a document, and of the documents in its lists one level down."""
    schema = _resolved(document, schema)
    for name, member in schema.get("properties", {}).items():
        resolved = _resolved(document, member)
        yield Field(name, _kind(document, member), member.get("description", "") or _first(resolved))
        inner = _resolved(document, resolved.get("items", {}))
        for below, part in inner.get("properties", {}).items():
            yield Field(f"{name}[].{below}", _kind(document, part), part.get("description", ""))


def _first(schema: Mapping[str, Any]) -> str:
    text: str = schema.get("description", "")
    return text.partition("\n\n")[0]


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a schema's type in a few words: ``list of string``, ``integer or null``, ``open | healed``."""
    schema = _resolved(document, schema)
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(document, part) for part in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(document, schema.get('items', {}))}"
    return schema.get("format") or kind if kind == "string" else str(kind)


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    found: Mapping[str, Any] = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found

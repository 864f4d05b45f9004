from __future__ import annotations

from typing import Any

from ssmd_manifest_api.view_docs import Operation, sections

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/things/{feed}/{name}": {
            "get": {
                "tags": ["things"],
                "operationId": "get_thing",
                "description": "Return `a thing`.\n\nIn full.",
                "parameters": [
                    {"name": "feed", "in": "path", "required": True, "schema": {"type": "string"}},
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "examples": ["a b"]},
                    },
                    {
                        "name": "from",
                        "in": "query",
                        "required": True,
                        "schema": {"type": "string"},
                        "example": "1&2",
                    },
                    {"name": "limit", "in": "query", "schema": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
                ],
                "responses": {
                    "404": {"description": "None"},
                    "200": {
                        "description": "Successful Response",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Things"}}},
                    },
                },
            }
        },
        "/health": {"get": {"operationId": "health", "responses": {}}},
    },
    "components": {
        "schemas": {
            "Things": {
                "properties": {"things": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}}
            },
            "Thing": {"properties": {"layer": {"enum": ["a", "b"], "description": "Which"}}},
        }
    },
}


def operation() -> Operation:
    found = sections(DOCUMENT, base_url="http://h:1", known={"feed": "kalshi"})
    assert [section.title for section in found] == ["The service itself", "Things"]
    return found[1].operations[0]


def test_the_command_asks_for_what_this_archive_holds_and_is_safe_in_a_shell() -> None:
    assert operation().command == "curl -s http://h:1/things/kalshi/a%20b?from=1%262".replace("http", "'http") + "'"
    assert operation().try_url == "/things/kalshi/a%20b?from=1%262"


def test_parameters_and_answers_say_their_type() -> None:
    assert [(one.name, one.place, one.kind) for one in operation().parameters][-1] == (
        "limit",
        "query",
        "integer",
    )
    assert [(answer.status, answer.description) for answer in operation().answers] == [
        ("200", "The answer"),
        ("404", "None"),
    ]
    assert [(field.name, field.kind, field.description) for field in operation().answers[0].fields] == [
        ("things", "list of any", ""),
        ("things[].layer", "a | b", "Which"),
    ]


def test_a_route_that_says_little_is_shown_all_the_same() -> None:
    health = sections(DOCUMENT, base_url="", known={})[0].operations[0]
    assert (health.summary, health.parameters, health.answers) == ("", [], [])

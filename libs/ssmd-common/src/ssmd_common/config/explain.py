"""What a person reads when a configuration is wrong: one line a mistake, with the field and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import AliasChoices, BaseModel

from ssmd_common.errors import ConfigError
from ssmd_common.service.redact import looks_secret, redact_text

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

__all__ = ["explain"]

_MAX_SHOWN = 60


def explain(error: ValidationError, model: type[BaseModel], *, file: str) -> ConfigError:
    """Return every mistake pydantic found as one error.

    Args:
        error: What pydantic raised.
        model: The model of the whole file.
        file: The file's name.

    Returns:
        An error of one line for one mistake; for several a first line with their number, then a line for each.
    """
    details = error.errors(include_url=False)
    # A list whose only items are wrong counts as too short as well: that says nothing new.
    inside = {detail["loc"][:end] for detail in details for end in range(len(detail["loc"]))}
    telling = [detail for detail in details if not (detail["type"] == "too_short" and detail["loc"] in inside)]
    mistakes = [_explain_one(detail, model, file) for detail in telling]
    if len(mistakes) == 1:
        return mistakes[0]
    lines = "".join(f"\n  {mistake}" for mistake in mistakes)
    return ConfigError(f"{len(mistakes)} fields are wrong:{lines}", file=file)


def _explain_one(detail: ErrorDetails, model: type[BaseModel], file: str) -> ConfigError:
    location = detail["loc"]
    problem, remedy = _problem(detail, model)
    if location[-1:] == ("[key]",):
        location, problem = location[:-2], f"a key {problem}"
    return ConfigError(problem, file=file, field=".".join(str(part) for part in location), remedy=remedy)


_BOUNDS = {
    "greater_than_equal": ("too small", "at least", "ge"),
    "greater_than": ("too small", "more than", "gt"),
    "less_than_equal": ("too large", "at most", "le"),
    "less_than": ("too large", "less than", "lt"),
}
_WHOLE = ("no whole number", "write a whole number")
_NUMBER = ("no number", "write a number")
_FLAG = ("neither true nor false", "write true or false")
_KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), _WHOLE),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), _NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), _FLAG),
    "path_type": ("no path", "write it as text"),
}
_COMMON = {
    "missing": ("missing", "add it"),
    "string_type": ("must be text", "put the value in quotes"),
    "string_too_short": ("is empty", "give a value"),
    "too_short": ("is empty", "list at least one"),
    **dict.fromkeys(("model_type", "dict_type"), ("must be a mapping", "write `key: value` lines below it")),
    **dict.fromkeys(("tuple_type", "list_type"), ("must be a list", "write `- item` lines below it")),
}


def _problem(detail: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """Return what is wrong and what to do about it."""
    location, context, kind = detail["loc"], detail.get("ctx", {}), detail["type"]
    match kind:
        case _ if kind in _COMMON:
            problem, remedy = _COMMON[kind]
        case _ if kind in _KINDS:
            what, remedy = _KINDS[kind]
            problem = f"{_shown(detail)} is {what}"
        case _ if kind in _BOUNDS:
            what, bound, key = _BOUNDS[kind]
            problem, remedy = f"{_shown(detail)} is {what}", f"give {bound} {context[key]}"
        case "ssmd":
            problem, remedy = context["problem"], context["remedy"]
        case "extra_forbidden":
            problem, remedy = "unknown key", _nearest(str(location[-1]), _keys_at(model, location[:-1]))
        case "literal_error":
            problem, remedy = f"{_shown(detail)} is not allowed", f"use {context['expected']}"
        case _:
            text = detail["msg"].removeprefix("Value error, ")
            problem, remedy = f"{_shown(detail)}: {text[:1].lower()}{text[1:]}", ""
    return problem, remedy


def _shown(detail: ErrorDetails) -> str:
    """Return the value that was refused, unless it may be a secret."""
    value = detail["input"]
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return "this value"
    if any(looks_secret(str(part)) for part in detail["loc"][-1:]):
        return "this value"
    text = redact_text(repr(value))
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _nearest(key: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}allowed here: {', '.join(allowed)}" if allowed else "remove it"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys a mapping at ``location`` may have."""
    annotation: object = model
    for part in location:
        models = _models_in(annotation)
        if models and isinstance(part, str):
            found = next((field for field in models[0].model_fields.items() if part in _spellings(*field)), None)
            annotation = found[1].annotation if found else None
        # An index of a list, or a free key of a mapping: the annotation holds the item's model already.
    return sorted(
        _spellings(name, field)[0]
        for known in _models_in(annotation)[:1]
        for name, field in known.model_fields.items()
    )


def _spellings(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias if isinstance(alias, str) else name]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models an annotation holds: itself, or those of its items, values or alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, tuple, list, dict) or get_args(annotation):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    return []

"""From a file to a model: reads YAML strictly and turns everything that can be wrong with it into one clear error.

YAML is read by its 1.2 core rules: ``no`` and ``16:00`` are text and ``010`` is ten, where older readers see a
flag, 960 and eight. A key given twice is refused instead of the first being forgotten.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ssmd_common.config.archiver import ArchiverConfig
from ssmd_common.config.environment import Environment
from ssmd_common.config.explain import explain
from ssmd_common.config.feed import Feed
from ssmd_common.config.model import ConfigModel
from ssmd_common.errors import ConfigError

__all__ = ["check_document", "load_archiver", "load_environment", "load_feed", "load_model", "parse_model"]

_ModelT = TypeVar("_ModelT", bound=ConfigModel)


def load_feed(path: Path | str) -> Feed:
    """Return the feed a file describes.

    Raises:
        ConfigError: The file cannot be read, or something in it is wrong; the text names every field.
    """
    return load_model(path, Feed)


def load_environment(path: Path | str) -> Environment:
    """Return the environment a file describes; errors as :func:`load_feed`."""
    return load_model(path, Environment)


def load_archiver(path: Path | str) -> ArchiverConfig:
    """Return the archiver configuration a file holds; errors as :func:`load_feed`."""
    return load_model(path, ArchiverConfig)


def load_model(path: Path | str, model: type[_ModelT]) -> _ModelT:
    """Return the content of a YAML file as a model; errors as :func:`load_feed`."""
    file = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError("no such file", file=file, remedy="check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text (byte {error.start})", file=file, remedy="save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"cannot be read: {reason}", file=file, remedy="check the path and who may read it"
        ) from None
    return parse_model(text, model, file=file)


def parse_model(text: str, model: type[_ModelT], *, file: str) -> _ModelT:
    """Return YAML text as a model.

    Args:
        text: The YAML.
        model: What it must be.
        file: Where it came from, for the error.

    Raises:
        ConfigError: The text is no YAML mapping, or something in it is wrong; the text names every field.
    """
    document = _parse_yaml(text, file)
    if not isinstance(document, dict):
        what = "is empty" if document is None else f"holds {_KINDS.get(type(document), 'a value')}"
        raise ConfigError(f"{what}, not a mapping", file=file, remedy="write it as lines of `key: value`")
    return check_document(document, model, file=file)


def check_document(document: dict[str, Any], model: type[_ModelT], *, file: str) -> _ModelT:
    """Return what a document holds as a model.

    Args:
        document: Keys and values, as YAML gives them.
        model: What it must be.
        file: Where it came from, for the error.

    Raises:
        ConfigError: Something in it is wrong; the text names every field.
    """
    try:
        return model.model_validate(document).read_from(file)
    except ValidationError as error:
        raise explain(error, model, file=file) from None


_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "a flag"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars, and no key twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute, filled below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen: set[object] = set()
        for key_node, _value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def _int(self, node: yaml.ScalarNode) -> int:
        return int(node.value)

    def _float(self, node: yaml.ScalarNode) -> float:
        return float(node.value)


_CORE_TAGS = {
    "null": (r"~|null|Null|NULL|", [*"~nN", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?[0-9]{1,400}", [*"-+0123456789"]),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
    "merge": (r"<<", ["<"]),
}
for _tag, (_pattern, _first) in _CORE_TAGS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader._int)  # noqa: SLF001 - our own class
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader._float)  # noqa: SLF001 - our own class


def _parse_yaml(text: str, file: str) -> object:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{place}{_told(error.problem)}", file=file, remedy="correct the YAML") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"not YAML: {problem}", file=file, remedy="correct the YAML") from None
    except RecursionError:
        raise ConfigError("nested too deeply", file=file, remedy="correct the YAML") from None


def _told(problem: str | None) -> str:
    """Return YAML's words without the name of an alias or tag: a password with * or ! in front is read as one."""
    if not problem:
        return "not YAML"
    if "alias" in problem or " tag " in problem:
        return problem.partition("'")[0] + "…; text that begins with * or ! belongs into quotes"
    return problem

"""Where secrets lie and how they are fetched: ``env:VAR_A,VAR_B`` and ``file:PATH_A,PATH_B``.

A source names places, one a field. Values come back as ``SecretStr``; errors name the variable or file, never what
is in it. Nothing is kept, so that a key replaced in its file is the one the next connection uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from ssmd_common.errors import ConfigError, CredentialError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KeySource", "fetch", "fetch_fields", "parse_source", "rsa_private_key"]

_FORMS = "write env:VARIABLE or file:PATH, several separated by commas"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the parts of a key lie.

    Attributes:
        kind: ``env`` for environment variables, ``file`` for files that hold one value each.
        places: The variables, or the paths.
    """

    kind: Literal["env", "file"]
    places: tuple[str, ...]


def parse_source(text: str) -> KeySource:
    """Read ``env:VAR_A,VAR_B`` or ``file:PATH_A,PATH_B``.

    Raises:
        ConfigError: The text has another form. It is not shown: it may be the secret itself.
    """
    kind, _, rest = text.partition(":")
    places = tuple(place.strip() for place in rest.split(","))
    match kind:
        case "env" if all(_VARIABLE.fullmatch(place) for place in places):
            return KeySource("env", places)
        case "file" if all(places) and "\0" not in rest:
            return KeySource("file", places)
        case _:
            raise ConfigError("is no key source", remedy=_FORMS)


def fetch(source: KeySource, environ: Mapping[str, str]) -> list[SecretStr]:
    """Return the values a source names, in its order.

    Args:
        source: Where they lie.
        environ: The environment variables.

    Raises:
        CredentialError: A variable is unset or empty, or a file cannot be read.
    """
    if source.kind == "env":
        return [_variable(name, environ) for name in source.places]
    return [_file(path) for path in source.places]


def fetch_fields(fields: Sequence[str], source: str, environ: Mapping[str, str]) -> dict[str, SecretStr]:
    """Return a key's parts by name.

    Raises:
        CredentialError: A part is missing.
    """
    return dict(zip(fields, fetch(parse_source(source), environ), strict=True))


def rsa_private_key(pem: SecretStr, *, where: str) -> RSAPrivateKey:
    r"""Return the RSA key in a PEM text, PKCS#8 or PKCS#1.

    Variables often cannot hold line ends, so the two characters ``\n`` stand for one as well.

    Args:
        pem: The text.
        where: The variable, file or field it came from, for the error.

    Raises:
        CredentialError: The text is no unencrypted RSA private key.
    """
    text = pem.get_secret_value().replace("\\r", "").replace("\\n", "\n").strip()
    remedy = "give the PEM file Kalshi offered for download, BEGIN and END lines included"
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise CredentialError("the private key is encrypted", field=where, remedy="decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        # The library's own text may quote the key.
        raise CredentialError("is no PEM private key", field=where, remedy=remedy) from None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialError("is no RSA key", field=where, remedy=remedy)
    return key


def _variable(name: str, environ: Mapping[str, str]) -> SecretStr:
    value = environ.get(name, "").strip()
    if not value:
        raise CredentialError(
            f"variable {name} is {'empty' if name in environ else 'not set'}",
            remedy=f"export {name}=…, or change the source of the key",
        )
    return SecretStr(value)


def _file(path: str) -> SecretStr:
    try:
        value = Path(path).read_text("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise CredentialError("not UTF-8 text", file=path) from None
    except OSError as error:
        raise CredentialError(
            f"cannot be read: {error.strerror}", file=path, remedy="check the path and who may read it"
        ) from None
    if not value:
        raise CredentialError("is empty", file=path, remedy="put the value into it")
    return SecretStr(value)

"""How a service reaches NATS: address, credentials and certificates, as written in a configuration file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, SecretStr, field_validator, model_validator

from ssmd_common.config.credentials import fetch, parse_source
from ssmd_common.config.model import ConfigModel, PathName, checked, invalid
from ssmd_common.errors import ConfigError, CredentialError

__all__ = ["ConsumerName", "NatsSettings", "NatsTlsSettings", "StreamName"]

_JETSTREAM_NAME = re.compile(r"[A-Za-z0-9_$=+-]{1,255}")
_SECRETS = ("password", "token", "nkey_seed")


def _jetstream_name(value: str) -> str:
    if not _JETSTREAM_NAME.fullmatch(value):
        raise invalid(f"{value[:80]!r} cannot name a stream or consumer", remedy="use letters, digits, - and _")
    return value


StreamName = Annotated[str, AfterValidator(_jetstream_name)]
"""The name of a JetStream stream."""

ConsumerName = Annotated[str, AfterValidator(_jetstream_name)]
"""The name of a durable JetStream consumer."""


class NatsTlsSettings(ConfigModel):
    """Certificates for NATS; the server's certificate is always verified.

    Attributes:
        ca: PEM file of the authorities to trust instead of the system's.
        cert: PEM file of the client's certificate.
        key: PEM file of its private key.
        hostname: Name to verify the server's certificate against, where it differs from the URL's host.
    """

    ca: PathName | None = None
    cert: PathName | None = None
    key: PathName | None = None
    hostname: str | None = None

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise invalid("cert and key go together", remedy="give both or neither")
        return self


class NatsSettings(ConfigModel):
    """Address of NATS and one way to authenticate, or none.

    As read from a file, the secrets may be places (``env:VAR``, ``file:PATH``); :meth:`with_secrets` fetches them.

    Attributes:
        url: ``nats://host:port`` (or ``tls://``); several separated by commas are servers of one cluster.
        user: User name; goes with ``password``.
        password: Password, or where it lies.
        token: Token, or where it lies.
        nkey_seed: NKey seed, or where it lies.
        creds: File with a user JWT and its seed, as ``nsc`` writes it.
        tls: Certificates; a ``tls://`` URL without them trusts the system's authorities.
    """

    url: str = "nats://localhost:4222"
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    nkey_seed: SecretStr | None = None
    creds: PathName | None = None
    tls: NatsTlsSettings | None = None

    @field_validator(*_SECRETS)
    @classmethod
    def _one_place(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value():
            raise invalid("is empty", remedy="give a value, or remove it")
        if value is not None and _is_place(value):
            source = checked(parse_source)(value.get_secret_value())
            if len(source.places) != 1:
                raise invalid(f"names {len(source.places)} places for one secret", remedy="name one")
        return value

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise invalid("user and password go together", remedy="give both or neither")
        ways = {"user": self.user, "token": self.token, "nkey_seed": self.nkey_seed, "creds": self.creds}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise invalid(f"{' and '.join(given)} exclude one another", remedy="keep one")
        return self

    def with_secrets(self, environ: Mapping[str, str] = os.environ) -> NatsSettings:
        """Return the settings a client connects with: the same, each secret fetched from where it lies.

        Args:
            environ: The environment variables.

        Raises:
            CredentialError: A variable is unset, or a file cannot be read.
        """
        plain = {name: getattr(self, name) for name in NatsSettings.model_fields}
        for name in _SECRETS:
            value = plain[name]
            if value is not None and _is_place(value):
                try:
                    plain[name] = fetch(parse_source(value.get_secret_value()), environ)[0]
                except ConfigError as error:
                    raise CredentialError(error.problem, file=error.file, field=name, remedy=error.remedy) from None
        return NatsSettings.model_construct(**plain)


def _is_place(value: SecretStr) -> bool:
    return value.get_secret_value().startswith(("env:", "file:"))

"""How a service reaches NATS: address, credentials and certificates, as written in a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

__all__ = ["NatsSettings", "NatsTlsSettings"]


class NatsTlsSettings(BaseModel):
    """Certificates for NATS; the server's certificate is always verified.

    Attributes:
        ca: PEM file of the authorities to trust instead of the system's.
        cert: PEM file of the client's certificate.
        key: PEM file of its private key.
        hostname: Name to verify the server's certificate against, where it differs from the URL's host.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    hostname: str | None = None

    @model_validator(mode="after")
    def _certificate_has_its_key(self) -> Self:
        if (self.cert is None) != (self.key is None):
            msg = "cert and key go together"
            raise ValueError(msg)
        return self


class NatsSettings(BaseModel):
    """Address of NATS and one way to authenticate, or none.

    Attributes:
        url: ``nats://host:port`` (or ``tls://``); several separated by commas are servers of one cluster.
        user: User name; goes with ``password``.
        password: Password, or where it lies (``env:VAR``, ``file:PATH``).
        token: Token, or where it lies.
        nkey_seed: NKey seed, or where it lies.
        creds: File with a user JWT and its seed, as ``nsc`` writes it.
        tls: Certificates; a ``tls://`` URL without them trusts the system's authorities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "nats://localhost:4222"
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    nkey_seed: SecretStr | None = None
    creds: Path | None = None
    tls: NatsTlsSettings | None = None

    @model_validator(mode="after")
    def _one_way_to_authenticate(self) -> Self:
        if (self.user is None) != (self.password is None):
            msg = "user and password go together"
            raise ValueError(msg)
        ways = {"user": self.user, "token": self.token, "nkey_seed": self.nkey_seed, "creds": self.creds}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            msg = f"{' and '.join(given)} exclude one another"
            raise ValueError(msg)
        return self

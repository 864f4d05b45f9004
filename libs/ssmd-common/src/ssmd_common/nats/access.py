"""What a client shows to NATS: credentials and certificates, fetched afresh for every connection.

A key replaced in its file is the one the next connection signs with, without a restart. Where TLS is asked for,
nothing is sent to a server that does not offer it: whoever stands between could have taken the offer away.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import nats.errors
import nkeys  # type: ignore[import-untyped]

from ssmd_common.errors import CredentialError
from ssmd_common.nats.client import NatsClient

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import SecretStr

    from ssmd_common.config.nats import NatsSettings

__all__ = ["Access", "AccessError", "GuardedClient", "TlsMissingError"]

_REFUSED_WHILE_CONNECTED = ("authorization violation", "authentication expired", "authentication revoked")


class TlsMissingError(nats.errors.Error):
    """TLS is asked for and the server does not offer it."""


class AccessError(nats.errors.Error):
    """What is to be shown cannot be fetched now."""


class Access:
    """Credentials and certificates of one client.

    Args:
        settings: As read from a file: secrets, or the places they lie in.
        environ: The environment variables.
    """

    def __init__(self, settings: NatsSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self.wants_tls = settings.tls is not None or "tls://" in settings.url

    def options(self) -> dict[str, Any]:
        """Return the client's keyword arguments.

        Raises:
            CredentialError: A secret or certificate is missing or malformed.
        """
        settings = self._settings.with_secrets(self._environ)
        options: dict[str, Any] = {}
        if settings.user is not None:
            options |= {"user": settings.user, "password": _secret(settings.password)}
        if settings.token is not None:
            options["token"] = _secret(settings.token)
        if settings.nkey_seed is not None:
            options["nkeys_seed_str"] = _checked_seed(_secret(settings.nkey_seed))
        if settings.creds is not None:
            # The client reads this file itself, whenever it connects.
            options["user_credentials"] = _checked_creds(settings.creds)
        if settings.tls is not None:
            options["tls"] = self.tls_context()
            if settings.tls.hostname is not None:
                options["tls_hostname"] = settings.tls.hostname
        return options

    def tls_context(self) -> ssl.SSLContext:
        """Return what verifies the server, and shows our certificate where there is one.

        Raises:
            CredentialError: A file is missing or malformed.
        """
        tls = self._settings.tls
        try:
            ca = None if tls is None or tls.ca is None else str(tls.ca)
            context = ssl.create_default_context(purpose=ssl.Purpose.SERVER_AUTH, cafile=ca)
            if tls is not None and tls.cert is not None:
                # Without a password a key that needs one would be asked for on the terminal.
                context.load_cert_chain(str(tls.cert), str(tls.key), password=_no_password)
        except FileNotFoundError:
            paths = (tls.ca, tls.cert, tls.key) if tls else ()
            missing = [str(path) for path in paths if path is not None and not path.exists()]
            raise CredentialError(
                f"no such file: {', '.join(missing)}", field="tls", remedy="check the path"
            ) from None
        except (ssl.SSLError, OSError, ValueError) as error:
            raise CredentialError(
                f"unusable certificate or key: {error}", field="tls", remedy="give PEM files, the key unencrypted"
            ) from None
        return context


class GuardedClient(NatsClient):
    """A client that shows what is valid at the time, and only to a server it may be shown to.

    Args:
        access: What to show.
    """

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """The context of the next connection, its certificates read anew."""
        try:
            return self._access.tls_context()
        except CredentialError as error:
            raise AccessError(str(error)) from None

    def _connect_command(self) -> bytes:
        if self._access.wants_tls and not self._server_info.get("tls_required"):
            raise TlsMissingError("the server offers no TLS; nothing was sent to it")
        try:
            options = self._access.options()
        except CredentialError as error:
            raise AccessError(str(error)) from None
        seed = options.get("nkeys_seed_str")
        if seed is not None and seed != self._nkeys_seed_str:
            self._nkeys_seed_str = seed
            self._setup_nkeys_seed_connect()
        self.options.update({name: options[name] for name in ("user", "password", "token") if name in options})
        return super()._connect_command()

    async def _process_err(self, err_msg: str) -> None:
        if self.is_connected and any(text in err_msg.lower() for text in _REFUSED_WHILE_CONNECTED):
            # The server let go of us for credentials it no longer takes: those that lie there by now may do.
            await self._process_op_err(nats.errors.Error(f"nats: {err_msg}"))
            return
        await super()._process_err(err_msg)


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""


def _no_password() -> str:
    raise ValueError("the key is encrypted; decrypt it first")


def _checked_seed(seed: str) -> str:
    try:
        nkeys.from_seed(bytearray(seed.strip().encode())).wipe()
    except (nkeys.NkeysError, ValueError):
        raise CredentialError("not an nkey seed", field="nkey_seed", remedy="a user seed starts with SU") from None
    return seed


def _checked_creds(path: Path) -> str:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise CredentialError(
            f"cannot be read: {error.strerror}",
            file=str(path),
            field="creds",
            remedy="check the path and who may read it",
        ) from None
    if "BEGIN NATS USER JWT" not in text or "BEGIN USER NKEY SEED" not in text:
        raise CredentialError(
            "holds no user JWT with its seed", file=str(path), field="creds", remedy="write it with `nsc`"
        )
    return str(path)

"""A real nats-server for tests: one process on a free loopback port, with a store that survives its death."""

from __future__ import annotations

import ipaddress
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ssmd_common.errors import ConfigError
from ssmd_common.nats.program import nats_server_binary

__all__ = ["Identity", "NatsServer", "free_port", "issued"]

_START_TIMEOUT_S = 60.0
_held: list[socket.socket] = []


def free_port() -> int:
    """Return a loopback port nobody listens on, and that on Linux nobody else is given while this process lives.

    A socket bound to it and never listening holds it: the system chooses it for nobody, as a server's port or as
    that of an outgoing connection, while whoever names it may listen there, again and again.
    """
    holder = socket.socket()
    # Both sides say so: this one and, as every server does, the one that will listen.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    if sys.platform == "linux":
        _held.append(holder)
    else:  # there nobody could listen beside it
        holder.close()
    return port


class NatsServer:
    """One nats-server with JetStream, started and killed at will on the same port and store.

    Args:
        folder: Where its store, configuration and log lie.
        config: Lines added to its configuration, such as an ``authorization`` block.
        jetstream: Whether JetStream is enabled.
    """

    def __init__(self, folder: Path, *, config: str = "", jetstream: bool = True) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.folder = folder
        self.log = folder / "nats.log"
        self._config = folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{folder / "store"}" }}\n' if jetstream else ""
        self._fixed = f'listen: "127.0.0.1:{self.port}"\nmax_payload: 8MB\n{store}'
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(f"{self._fixed}{config}\n", "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            ConfigError: It ended or did not listen in time; the log's end is in the text.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and file
                [str(nats_server_binary()), "-c", str(self._config)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if b"Server is ready" in self.log.read_bytes():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
            time.sleep(0.02)
        self.kill()
        raise ConfigError(f"nats-server did not start: {self.log.read_text('utf-8', 'replace')[-500:]}")

    def reload(self, config: str) -> None:
        """Let the running server take up other lines in place of ``config``; it says so in its log."""
        self._config.write_text(f"{self._fixed}{config}\n", "utf-8")
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill it as a crash would; the store stays. Harmless when it is not running."""
        self._end(hard=True)

    def stop(self) -> None:
        """Stop it in order; the store stays. Harmless when it is not running."""
        self._end(hard=False)

    def _end(self, *, hard: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            if hard:
                process.kill()
            else:
                process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(60)
        self.log.write_bytes(b"")


@dataclass
class Identity:
    """A certificate with its key, and the files they lie in."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    cert_file: Path
    key_file: Path


def issued(folder: Path, name: str, issuer: Identity | None = None) -> Identity:
    """Make a certificate for the loopback address: an authority of its own, or signed by one."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names if issuer else names[:1]), critical=False)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return Identity(certificate, key, cert_file, key_file)

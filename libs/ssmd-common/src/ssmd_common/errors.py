"""Every error ssmd raises on purpose, as one tree.

* :exc:`SsmdError`: a problem with a remedy; its text is one line for a person
    * :exc:`ConfigError`: a file, field, variable or argument is wrong; the process exits 2
        * :exc:`CredentialError`: a key, token or certificate is missing, malformed or refused
    * :exc:`ArchiveError`: what lies in the archive contradicts itself or its writer; exits 1
        * :exc:`ArchiveBusyError`: another process writes this folder
    * :exc:`TransportError`: NATS refused or cannot do what the service needs; exits 1
    * :exc:`WireError`: bytes or a name break the wire's grammar
    * :exc:`ApiError`: the manifest API refused a request, or did not answer

Exit codes: 0 done, 1 work failed, 2 configuration or arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

__all__ = [
    "ApiError",
    "ArchiveBusyError",
    "ArchiveError",
    "ConfigError",
    "CredentialError",
    "SsmdError",
    "TransportError",
    "WireError",
]


class SsmdError(Exception):
    """A problem that a person can act on.

    Attributes:
        problem: What is wrong, naming the thing.
        remedy: What to do about it; empty where the problem says it all.
        where: The file, field, subject or address it is about; empty when unknown.
    """

    exit_code = 1

    def __init__(self, problem: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(problem, remedy, where)
        self.problem = problem
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        """Return one line: ``where: problem (remedy)``."""
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text} ({self.remedy})" if self.remedy else text


class ConfigError(SsmdError):
    """A configuration file, variable or argument is wrong.

    Attributes:
        file: The file, variable or option that holds the value.
        field: The dotted field inside it; empty when the whole is meant.
    """

    exit_code = 2

    def __init__(self, problem: str, *, file: str = "", field: str = "", remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy, where=": ".join(part for part in (file, field) if part))
        self.file = file
        self.field = field

    def within(self, file: str, section: str = "") -> Self:
        """Return the same mistake as one of a configuration file; as it is where there is no file.

        Args:
            file: The file.
            section: The field in it that holds what the mistake is about, and its field where it names one.
        """
        if not file:
            return self
        problem = f"{self.file}: {self.problem}" if self.file else self.problem
        field = ".".join(part for part in (section, self.field) if part)
        return type(self)(problem, file=file, field=field, remedy=self.remedy)


class CredentialError(ConfigError):
    """A key, token or certificate is missing, malformed or refused. Never carries the secret itself."""


class ArchiveError(SsmdError):
    """The archive's files contradict themselves or what the writer is about to do."""


class ArchiveBusyError(ArchiveError):
    """Another process holds the folder's writer lock."""


class TransportError(SsmdError):
    """NATS refused, or cannot do, what the service needs."""


class WireError(SsmdError):
    """Bytes or a name break the wire's grammar."""


class ApiError(SsmdError):
    """The manifest API refused a request, or did not answer.

    Attributes:
        status: The HTTP status; None where no answer came.
        document: The problem document, as ``nearest`` of a name that is not there; empty where there is none.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str = "",
        remedy: str = "",
        status: int | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(problem, remedy=remedy, where=where)
        self.status = status
        self.document = document or {}

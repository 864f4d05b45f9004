"""Reads what a service answers when it is asked whether it is ready; pure."""

from __future__ import annotations

import httpx
import msgspec

__all__ = ["why_not"]


class _Check(msgspec.Struct, frozen=True):
    ok: bool
    reason: str = ""


class _Answer(msgspec.Struct, frozen=True):
    checks: dict[str, _Check] = {}


def why_not(answer: httpx.Response) -> dict[str, str]:
    """Return the conditions that do not hold and why; empty where the answer names none."""
    try:
        checks = msgspec.json.decode(answer.content, type=_Answer).checks
    except msgspec.DecodeError:
        return {}
    return {name: check.reason for name, check in checks.items() if not check.ok}

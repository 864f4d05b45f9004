"""A day's certificate in words: what came in and what became of it, as a sum that adds up; pure."""

from __future__ import annotations

from dataclasses import dataclass

from ssmd_common.archive.certificate import Certificate
from ssmd_manifest_api.view_text import number

__all__ = ["CertificateView", "Row", "certificate_view"]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the sum: its sign, what it counts, how many frames."""

    sign: str
    name: str
    frames: str


@dataclass(frozen=True, slots=True)
class CertificateView:
    """What the page of a day shows of its certificate.

    Attributes:
        balanced: Nothing is unaccounted for.
        counted: Some frame has a number; else there is nothing to balance.
        final: The day gains no more segments.
        came: The lines of what came in.
        became: The lines of what became of it; their sum is that of ``came``.
        unnumbered: Records of publishers that number no frames, which no balance can count.
        root: The hash that stands for the whole day.
    """

    balanced: bool
    counted: bool
    final: bool
    came: list[Row]
    became: list[Row]
    unnumbered: str
    root: str


def certificate_view(certificate: Certificate) -> CertificateView:
    """Return a certificate in words; lines of nothing are left out, but for what was received and archived."""
    frames = certificate.frames
    came = [("received by the connectors", frames.received), ("under way from before", frames.carried_in)]
    became = [
        ("archived", frames.archived),
        *((f"lost in recorded gaps: {layer}", lost) for layer, lost in frames.lost.items()),
        ("unverifiable, for a connector crashed", frames.unverifiable),
        ("still under way", frames.carried_out),
        ("unaccounted for", frames.unaccounted),
    ]
    return CertificateView(
        balanced=certificate.balanced,
        counted=any(count for _, count in came) or not certificate.records_without_frame,
        final=certificate.state == "final",
        came=_rows(came, ""),
        became=_rows(became, "="),
        unnumbered=number(certificate.records_without_frame) if certificate.records_without_frame else "",
        root=certificate.root,
    )


def _rows(lines: list[tuple[str, int]], first: str) -> list[Row]:
    shown = [line for at, line in enumerate(lines) if line[1] or not at]
    return [Row(first if not at else "+", name, number(frames)) for at, (name, frames) in enumerate(shown)]

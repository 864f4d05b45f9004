"""The compose file, read without a Docker: what the services are told is there."""

from __future__ import annotations

from pathlib import Path

import yaml

from ssmd_manifest_api.config import load_calendars

COMPOSE = Path(__file__).parents[2] / "deploy/compose/compose.yaml"


def test_the_api_knows_the_calendars_of_the_feeds() -> None:
    service = yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["manifest-api"]
    mounted = {target: source for source, target, *_ in (volume.split(":") for volume in service["volumes"])}
    command = service["command"]
    assert "kalshi" in load_calendars(COMPOSE.parent / mounted[command[command.index("--feeds") + 1]])

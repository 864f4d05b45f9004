"""Pants plugin: today's ruff in the goals `lint` and `fmt`."""

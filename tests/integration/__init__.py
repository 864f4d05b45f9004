"""Tests of more than one part, on real NATS."""

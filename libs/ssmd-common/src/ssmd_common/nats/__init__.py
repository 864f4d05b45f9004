"""NATS as ssmd uses it: connecting, streams, and what an acknowledgement's subject tells."""

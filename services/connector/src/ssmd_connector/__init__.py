"""The connector: reads one exchange's WebSocket and publishes every frame, bytes unchanged, to JetStream."""

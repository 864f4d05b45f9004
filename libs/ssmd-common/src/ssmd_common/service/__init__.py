"""The frame every service stands in: logs, metrics, health over HTTP, signals and exit codes."""

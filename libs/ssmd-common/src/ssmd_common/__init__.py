"""What every ssmd service shares: the wire, the configuration, the archive, the service frame."""

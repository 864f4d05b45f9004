"""The local deployment: one command from an exchange to an archive, on one machine without containers."""

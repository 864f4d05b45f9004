"""The manifest API: a read-only view of an archive over HTTP."""

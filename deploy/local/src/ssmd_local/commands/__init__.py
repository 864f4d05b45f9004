"""The subcommands of ``ssmd``, one module each."""

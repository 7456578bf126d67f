"""The `vortex` command: one file per command, listed in app.py."""

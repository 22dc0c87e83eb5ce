"""The handler process: ``python -m sluice.worker`` with the host's socket as file descriptor 3 (docs/decisions/0001)."""

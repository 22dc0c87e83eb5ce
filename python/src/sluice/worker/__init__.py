"""The handler process: ``python -m sluice.worker`` with the host's sockets as file descriptors 3 and 4 (docs/decisions/0001)."""

"""``python -m sluice.remote_call``."""

from sluice.remote_call.command import main

if __name__ == "__main__":
    main()

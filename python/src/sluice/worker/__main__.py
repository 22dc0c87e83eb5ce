"""``python -m sluice.worker``: started by the server, one process a replica."""

from sluice.worker.process import main

if __name__ == "__main__":  # multiprocessing imports this file again in its children
    main()

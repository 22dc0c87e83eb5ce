"""mosec with the handlers of the single-row scenarios: batches of 64, 5 ms wait, one worker process.

LOAD_HANDLER=lengths|simulated_gpu mosec_rows.py --port N …
POST /inference with a JSON object {"text": …} answers {"result": n}.
"""

import os

import handlers
from mosec import Server, Worker

BODY = getattr(handlers, os.environ["LOAD_HANDLER"])


class Rows(Worker):
    def forward(self, data: list[dict]) -> list[dict]:
        return [{"result": value} for value in BODY([row["text"] for row in data])]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Rows, num=1, max_batch_size=64, max_wait_time=5)
    server.run()

"""mosec with Arrow bodies: a request is an Arrow stream with a column `text`, its answer one with a column `result`.

LOAD_WIDTH=384 mosec_bulk.py --port N …; the requests are batches already, so mosec makes none.
"""

import os

import pyarrow as pa
from handlers import vectors_table
from mosec import Server, Worker

WIDTH = int(os.environ["LOAD_WIDTH"])


class Bulk(Worker):
    def deserialize(self, data: bytes) -> pa.Table:
        return pa.ipc.open_stream(data).read_all()

    def forward(self, data: pa.Table) -> pa.Table:
        return vectors_table(data, WIDTH)

    def serialize(self, data: pa.Table) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, data.schema) as writer:
            writer.write_table(data)
        return sink.getvalue().to_pybytes()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Bulk, num=1)
    server.run()

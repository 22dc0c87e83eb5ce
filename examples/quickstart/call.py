import pyarrow as pa
from sluice import Remote

shout = Remote().function("shout", output_type=pa.string(), is_async=True)
table = pa.table({"text": ["one", "two", "three"]})
print(shout.chunked_call(table, chunk_size=2, concurrent_chunks=4, timeout=60))
handle = shout.defer_batch(table)
print(handle.call_id, handle.get(timeout=60))

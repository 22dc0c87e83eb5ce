"""Run in the environment of the reference packages: one call of their client for each line of stdin, one answer for each."""

import base64
import json
import sys

from chalkcompute._remote_call_client import RemoteCallClient

client = RemoteCallClient(sys.argv[1], use_tls=False)
for line in sys.stdin:
    asked = json.loads(line)
    metadata = list(asked.get("metadata", {}).items())
    try:
        chunks = client.call_ipc(asked["name"], base64.b64decode(asked["ipc"]), metadata)
        told = {"chunks": [base64.b64encode(chunk).decode() for chunk in chunks]}
    except Exception as error:
        told = {"error": type(error).__name__, "args": [str(one) for one in error.args]}
    print(json.dumps(told), flush=True)

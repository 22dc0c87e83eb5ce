"""Clients of the Open Inference Protocol from PyPI, asked over a pipe: JSON lines in, JSON lines out.

A question is {"client", "op", "model", "inputs": [{"name", "datatype", "shape", "data"}], "binary", "outputs", "key"}; tensors
go as nested lists, texts as strings. An answer has "outputs", or "error" with what the client raised. Runs where the packages
are installed. Triton's and KServe's bring the same protobuf definitions under the same names, so a process has one of them.
"""

import asyncio
import json
import sys

import numpy as np

FAMILY, HTTP, GRPC = sys.argv[1:4]
if FAMILY == "kserve":
    import kserve
else:
    import tritonclient.grpc
    import tritonclient.http

DTYPES = {"BOOL": "bool", "BYTES": "object", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
DTYPES |= {f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}


def array(tensor):
    data = tensor["data"]
    if tensor["datatype"] == "BYTES":
        data = [text.encode() for text in np.ravel(data)]
    return np.array(data, dtype=DTYPES[tensor["datatype"]]).reshape(tensor["shape"])


def plain(values):
    """Its shape, its dtype, and its elements as JSON has them: texts for bytes, and texts for what is not finite."""
    values = np.asarray(values)
    flat = [one.decode() if isinstance(one, bytes) else one for one in values.ravel().tolist()]
    flat = [str(one) if isinstance(one, float) and not np.isfinite(one) else one for one in flat]
    return {"shape": list(values.shape), "dtype": str(values.dtype), "data": flat}


def headers(asked):
    return {"authorization": f"Bearer {asked['key']}"} if asked.get("key") else None


class Triton:
    def __init__(self, module, address):
        self.module, self.client = module, module.InferenceServerClient(address)
        self.is_http = module is tritonclient.http

    def infer(self, asked):
        inputs = []
        for tensor in asked["inputs"]:
            one = self.module.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
            one.set_data_from_numpy(array(tensor), **({"binary_data": asked["binary"]} if self.is_http else {}))
            inputs.append(one)
        outputs = [
            self.module.InferRequestedOutput(name, **({"binary_data": asked["binary"]} if self.is_http else {}))
            for name in asked["outputs"]
        ]
        more = {"timeout": asked["timeout"]} if asked.get("timeout") else {}
        found = self.client.infer(asked["model"], inputs, outputs=outputs, request_id="one", headers=headers(asked), **more)
        return {name: plain(found.as_numpy(name)) for name in asked["outputs"]}

    def metadata(self, asked):
        found = self.client.get_model_metadata(asked["model"], **({} if self.is_http else {"as_json": True}))
        shapes = lambda tensors: [[t["name"], t["datatype"], [int(n) for n in t["shape"]]] for t in tensors]  # noqa: E731
        return {"inputs": shapes(found["inputs"]), "outputs": shapes(found["outputs"])}

    def health(self, asked):
        client = self.client
        return [client.is_server_live(), client.is_server_ready(), client.is_model_ready(asked["model"])]


class Kserve:
    """Its clients are asynchronous, and each is of one event loop."""

    def __init__(self, is_http):
        self.is_http = is_http
        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(self.made())

    async def made(self):
        if self.is_http:
            return kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2"))
        return kserve.InferenceGRPCClient(url=GRPC)

    def infer(self, asked):
        inputs = []
        for tensor in asked["inputs"]:
            one = kserve.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
            one.set_data_from_numpy(array(tensor), binary_data=asked["binary"])
            inputs.append(one)
        request = kserve.InferRequest(model_name=asked["model"], infer_inputs=inputs)
        if self.is_http:
            work = self.client.infer(HTTP, request, model_name=asked["model"], headers=headers(asked) or {})
        else:
            work = self.client.infer(request)
        found = self.loop.run_until_complete(work)
        return {one.name: plain(one.as_numpy()) for one in found.outputs}

    def health(self, asked):
        base = (HTTP,) if self.is_http else ()
        asks = (
            self.client.is_server_live(*base),
            self.client.is_server_ready(*base),
            self.client.is_model_ready(*base, asked["model"]),
        )
        return [self.loop.run_until_complete(one) for one in asks]


MADE = {
    "triton-http": lambda: Triton(tritonclient.http, HTTP.removeprefix("http://")),
    "triton-grpc": lambda: Triton(tritonclient.grpc, GRPC),
    "kserve-http": lambda: Kserve(True),
    "kserve-grpc": lambda: Kserve(False),
}
clients = {}


def answer(asked):
    name = asked["client"]
    if name not in clients:
        clients[name] = MADE[name]()
    try:
        return {"outputs": getattr(clients[name], asked["op"])(asked)}
    except Exception as error:  # noqa: BLE001  (whatever the client raises is the answer)
        return {"error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)

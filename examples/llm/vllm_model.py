"""A large language model on a GPU: what Sluice's entrypoint serves inside the image vllm/vllm-openai.

``$LLM_MODEL`` names the model, as vLLM takes it: a name on a hub, or a folder such as /app/artifacts/model.
"""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa

llm: Any = None


def on_startup() -> None:
    global llm
    from vllm import LLM

    llm = LLM(model=os.environ["LLM_MODEL"], gpu_memory_utilization=float(os.environ.get("LLM_GPU_SHARE", "0.9")))


def handler(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.Array:
    """All prompts of a batch at once: vLLM schedules them on the device by itself."""
    from vllm import SamplingParams

    columns = (event[name].to_pylist() for name in ("prompt", "max_tokens", "temperature", "seed"))
    prompts, limits, temperatures, seeds = columns
    options = [
        SamplingParams(max_tokens=limit or 1, temperature=temperature or 0.0, seed=seed)
        for limit, temperature, seed in zip(limits, temperatures, seeds, strict=True)
    ]
    answers = llm.generate(prompts, options, use_tqdm=False)
    return pa.array([answer.outputs[0].text for answer in answers], pa.string())

"""Registers a text model and deploys it as ``model.llm``: a small one, trained here, or with --vllm a large one on a GPU."""

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path

import sluice
from language_model import LanguageModel
from text_model import TextModel

HERE = Path(__file__).resolve().parent
INPUTS = {"prompt": str, "max_tokens": int, "temperature": float, "seed": int}
OUTPUTS = {"text": str}
VLLM_IMAGE = "vllm/vllm-openai:v0.11.0"


def docstrings(limit: int) -> str:
    """Real text that every machine has: the docstrings of Python's standard library."""
    sys.path.insert(0, str(HERE.parent / "minilm"))
    from documents import documents

    return "\n\n".join(documents(Path(sysconfig.get_paths()["stdlib"]), limit)["text"].to_pylist())


def vllm_image() -> sluice.Image:
    return (
        sluice.Image.base(VLLM_IMAGE)
        .pip_install("pyarrow>=17")
        .add_local_file(HERE / "vllm_model.py", "/app/handler/vllm_model.py")
        .workdir("/app/handler")
    )


def deploy_small(client: sluice.Client, group: str, rows: int) -> sluice.ScalingGroup:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.npz"
        LanguageModel.train(docstrings(rows)).save(file)
        version = client.register_model_version(
            name="small_text",
            model=TextModel(files=[file]),
            input_schema=INPUTS,
            output_schema=OUTPUTS,
            metadata={"trained on": f"{rows} docstrings of the standard library"},
        )
    return client.deploy_model_version_to_scaling_group(
        name=group,
        model_name="small_text",
        model_version=version.model_version,
        scaling=sluice.AutoScalingSpec(min_replicas=1, max_replicas=2),
        max_batching_size=16,
        max_buffer_duration=20,
    )


def deploy_vllm(client: sluice.Client, group: str, model: str, gpu: str) -> sluice.ScalingGroup:
    version = client.register_model_version(
        name="vllm_text",
        image=vllm_image(),
        handler="vllm_model.handler",
        input_schema=INPUTS,
        output_schema=OUTPUTS,
        metadata={"model": model},
    )
    return client.deploy_model_version_to_scaling_group(
        name=group,
        model_name="vllm_text",
        model_version=version.model_version,
        backend="container",
        handler="vllm_model.handler",
        on_startup="vllm_model.on_startup",
        env_vars={"LLM_MODEL": model},
        resources=sluice.ScalingGroupResourceRequest(cpu="4", memory="32Gi", gpu=gpu),
        max_batching_size=256,
        max_buffer_duration=50,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--group", default="llm")
    parser.add_argument("--rows", type=int, default=1500, help="docstrings that the small model learns from")
    parser.add_argument("--vllm", metavar="MODEL", help="a large model on a GPU, such as Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--gpu", default="nvidia-l4:1")
    options = parser.parse_args()
    client = sluice.Client()
    if options.vllm:
        group = deploy_vllm(client, options.group, options.vllm, options.gpu)
    else:
        group = deploy_small(client, options.group, options.rows)
    print(f"model.{group.name} is {group.state}")


if __name__ == "__main__":
    main()

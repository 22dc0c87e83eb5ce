"""PyTorch: the first of these that takes the module, with the reasons why the others before it do not.

1. TorchScript and exported programs as they are.
2. The state as safetensors, where a replica can make the module again: its class is shipped as source, or installed, and is
   constructed without arguments.
3. Of a bare model, an exported program (torch.export): graph and weights for any number of rows of the input schema.
4. TorchScript.
5. Pickle, by its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field, arrow_schema
from sluice.models.serializers import pickled
from sluice.models.serializers.saved import Saved, SaveRequest, Unsuitable, one_line


def save(model: Any, request: SaveRequest) -> Saved:
    import torch

    if isinstance(model, torch.export.ExportedProgram):
        return _exported(model, request, "it is an exported program")
    if isinstance(model, torch.jit.ScriptModule):
        return _script(model, request, "it is TorchScript")
    if not isinstance(model, torch.nn.Module):
        raise DeclarationError(f"model is {type(model).__name__}; of PyTorch, hand over a module or a program, not a state")
    was_training = model.training
    model.eval()
    try:
        return _first(model, request)
    finally:
        model.train(was_training)


def _first(model: Any, request: SaveRequest) -> Saved:
    ways: list[tuple[str, Callable[..., Saved]]] = [("safetensors", _state)]
    if request.is_bare:
        ways.append(("torch.export", _export))
    ways.append(("TorchScript", _scripted))
    reasons: list[str] = []
    for name, way in ways:
        try:
            return way(model, request, "; ".join(reasons))
        except Unsuitable as reason:
            reasons.append(f"no {name}: {reason}")
    return pickled.save(model, request, "; ".join(reasons))


def _said(why: str, before: str) -> str:
    return f"{why} ({before})" if before else why


def _state(model: Any, request: SaveRequest, before: str) -> Saved:
    try:
        from safetensors.torch import save_model
    except ImportError:
        raise Unsuitable("safetensors is not installed (pip install safetensors)") from None
    kind = type(model)
    _check_twin(model, kind)
    module = request.ship(kind)
    if module is None and (kind.__module__ == "__main__" or "<locals>" in kind.__qualname__):
        raise Unsuitable(f"a replica cannot import {kind.__qualname__}")
    path = request.directory / "model.safetensors"
    save_model(model, str(path))
    root = kind.__module__.partition(".")[0]
    return Saved(
        serializer="torch",
        format="safetensors",
        why=_said(f"the state is tensors only, and {kind.__qualname__} is made again from source", before),
        files={path.name: path},
        path=path.name,
        needs=("torch", "safetensors") if module is not None else ("torch", "safetensors", root),
        details={"module": module or kind.__module__, "class": kind.__qualname__},
    )


def _check_twin(model: Any, kind: type) -> None:
    """Without arguments the class must make a module with the same names and shapes."""
    import torch

    try:
        with torch.device("meta"):
            twin = kind()
    except Exception as error:  # any constructor
        raise Unsuitable(f"{kind.__qualname__}() without arguments fails: {one_line(error)}") from None
    shapes, own = ({name: tuple(value.shape) for name, value in one.state_dict().items()} for one in (twin, model))
    if shapes != own:
        raise Unsuitable(f"{kind.__qualname__}() without arguments has other parameters than this module")


def _export(model: Any, request: SaveRequest, before: str) -> Saved:
    import torch

    # Two rows: one row would be taken for a constant of the graph.
    example = _tensor(DataFrame(_example(request.inputs)), model)
    try:
        program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("rows", min=1)},))
    except Exception as error:  # data-dependent control flow, unsupported operators
        raise Unsuitable(one_line(error)) from None
    return _exported(program, request, _said("the graph is exported for any number of rows", before))


def _example(inputs: list[Field]) -> Any:
    import pyarrow as pa

    schema = arrow_schema(inputs)
    return pa.table([_zeros(field) for field in schema], schema=schema)


def _zeros(field: Any) -> Any:
    import pyarrow as pa
    from pyarrow import types as pt

    if pt.is_fixed_size_list(field.type):
        return pa.array([[0] * field.type.list_size] * 2, field.type)
    if not (pt.is_integer(field.type) or pt.is_floating(field.type) or pt.is_boolean(field.type)):
        raise Unsuitable(f"the input {field.name} is {field.type}, of which no example tensor is made")
    return pa.array([0, 0]).cast(field.type)


def _exported(program: Any, request: SaveRequest, why: str) -> Saved:
    import torch

    path = request.directory / "model.pt2"
    torch.export.save(program, path)
    return _program("torch.export", path, why)


def _scripted(model: Any, request: SaveRequest, before: str) -> Saved:
    import torch

    try:
        script = torch.jit.script(model)
    except Exception as error:  # Python that TorchScript does not have
        raise Unsuitable(one_line(error)) from None
    return _script(script, request, _said("TorchScript holds graph and weights", before))


def _script(script: Any, request: SaveRequest, why: str) -> Saved:
    path = request.directory / "model.pt"
    script.save(str(path))
    return _program("torchscript", path, why)


def _program(form: str, path: Path, why: str) -> Saved:
    return Saved(serializer="torch", format=form, why=why, files={path.name: path}, path=path.name, needs=("torch",))


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    import torch

    path = directory / saved["path"]
    if saved["format"] == "torch.export":
        return torch.export.load(path).module()
    if saved["format"] == "torchscript":
        return torch.jit.load(str(path), map_location="cpu").eval()
    from safetensors.torch import load_model

    kind: Any = import_module(saved["module"])
    for part in saved["class"].split("."):
        kind = getattr(kind, part)
    model = kind()
    load_model(model, str(path))
    return model.eval()


def _tensor(frame: DataFrame, model: Any) -> Any:
    import numpy
    import torch

    weight = next((one for one in model.parameters() if one.is_floating_point()), None)
    matrix = numpy.ascontiguousarray(frame.to_numpy())
    given = torch.from_numpy(matrix if matrix.flags.writeable else matrix.copy())
    return given.to(weight.device, weight.dtype) if weight is not None else given


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    import torch

    if hasattr(model, "module") and not isinstance(model, torch.nn.Module):
        model = model.module()  # an exported program at home
    if isinstance(model, torch.nn.Module) and model.training and not _is_graph(model):
        model.eval()
    with torch.inference_mode():
        answer = model(_tensor(frame, model))
    if not isinstance(answer, torch.Tensor):
        raise DeclarationError(
            f"the module answers {type(answer).__name__}, not one tensor; wrap it in a class with @sluice.model_handler"
        )
    answer = answer.detach().cpu()
    return (answer.float() if answer.dtype is torch.bfloat16 else answer).numpy()


def _is_graph(model: Any) -> bool:
    """An exported program refuses eval(): it was exported in that mode."""
    import torch

    return isinstance(model, torch.fx.GraphModule)

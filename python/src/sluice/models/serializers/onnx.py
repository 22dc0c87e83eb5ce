"""ONNX as it is: the file holds a graph and weights. It is loaded as an onnxruntime session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.saved import Saved, SaveRequest

NAME = "model.onnx"
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


def save(model: Any, request: SaveRequest) -> Saved:
    if isinstance(model, (str, Path)):
        path = Path(model)
        if not path.is_file():
            raise DeclarationError(f"model is {str(path)!r}, which is no file")
    elif hasattr(model, "SerializeToString"):
        import onnx

        path = request.directory / NAME
        onnx.save_model(model, str(path))
    else:
        raise DeclarationError(
            f"model is {type(model).__name__}, which cannot be saved; hand over the onnx.ModelProto, or the path of a .onnx file"
        )
    return Saved(
        serializer="onnx",
        format="onnx",
        why="ONNX holds a graph and weights, and no code",
        files={NAME: path, **_weights_beside(path)},
        path=NAME,
        needs=("onnxruntime",),
    )


def _weights_beside(path: Path) -> dict[str, Path]:
    """The files that a model keeps its weights in, as PyTorch's exporter writes them; the graph names them from its folder."""
    found = {name: path.parent / name for name in _named_weights(path)}
    for name, file in found.items():
        if Path(name).name != name or name == NAME:
            raise DeclarationError(f"{path} keeps weights in {name!r}; save it with one file of another name beside it")
        if not file.is_file():
            raise DeclarationError(f"{path} keeps weights in {name}, which is not beside it; put it there")
    return found


def _named_weights(path: Path) -> set[str]:
    try:
        import onnx
        from onnx.external_data_helper import ExternalDataInfo, uses_external_data
    except ImportError:
        beside = path.with_name(f"{path.name}.data")
        return {beside.name} if beside.is_file() else set()
    graph = onnx.load(str(path), load_external_data=False).graph
    return {ExternalDataInfo(one).location for one in graph.initializer if uses_external_data(one)}


def opened(model: Any) -> Any:
    if isinstance(model, (str, Path)):
        return _session(str(model))
    return _session(model.SerializeToString()) if hasattr(model, "SerializeToString") else model


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    return _session(str(directory / saved["path"]))


def _session(source: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(source, providers=onnxruntime.get_available_providers())


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    """Inputs by name where all are columns; else one input gets all columns side by side. Outputs by name, else the first."""
    session = opened(model)
    wanted = session.get_inputs()
    if all(one.name in frame for one in wanted):
        given = {one.name: _shaped(frame.select([one.name]).to_numpy(), one) for one in wanted}
    elif len(wanted) == 1:
        given = {wanted[0].name: frame.to_numpy().astype(_DTYPES.get(wanted[0].type, "float32"))}
    else:
        inputs = ", ".join(one.name for one in wanted)
        raise DeclarationError(f"the ONNX model has the inputs {inputs}; name the columns of input_schema so, or write a class")
    there = [one.name for one in session.get_outputs()]
    names = [field["name"] for field in outputs]
    if all(name in there for name in names):
        return {name: _flat(array) for name, array in zip(names, session.run(names, given), strict=True)}
    return session.run(there[:1], given)[0]


def _shaped(matrix: Any, wanted: Any) -> Any:
    """(rows, 1) as the input has it: ONNX tells apart a column and a vector."""
    matrix = matrix.astype(_DTYPES.get(wanted.type, "float32"))
    return matrix[:, 0] if len(wanted.shape) == 1 else matrix


def _flat(array: Any) -> Any:
    return array[:, 0] if getattr(array, "ndim", 1) == 2 and array.shape[1] == 1 else array

"""PyTorch, CatBoost and TensorFlow: ``make test-frameworks`` installs them. Trained here, registered, deployed on the real
server, called in bulk, compared with the local prediction row by row; and each way in which a PyTorch module is saved."""

import os
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from sluice import DataFrame

ROWS = 3000
RANDOM = np.random.default_rng(3)
MATRIX = np.column_stack([RANDOM.uniform(0, 1, ROWS), RANDOM.uniform(0, 2, ROWS)])
TARGET = MATRIX[:, 0] * 3 - MATRIX[:, 1]
TABLE = pa.table({"a": MATRIX[:, 0], "b": MATRIX[:, 1]})
INPUTS = {"a": float, "b": float}
Y = {"y": pa.float32()}
CHUNK = 400


def needs(module):
    wanted = os.environ.get("SLUICE_TEST_FRAMEWORKS") == "1"
    return pytest.mark.skipif(find_spec(module) is None and not wanted, reason=f"{module} is not here: make test-frameworks")


def called_in_bulk(client, group):
    answer = client.function(group, is_async=True).chunked_call(TABLE, chunk_size=CHUNK, concurrent_chunks=8, timeout=120)
    return answer["result"]


def trained(module):
    import torch

    torch.manual_seed(0)
    x, y = torch.from_numpy(MATRIX).float(), torch.from_numpy(TARGET).float()
    optimiser = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(20):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(module(x)[:, 0], y).backward()
        optimiser.step()
    return module


def answers_of(module):
    import torch

    module.eval()
    with torch.inference_mode():
        return module(torch.from_numpy(MATRIX).float()).numpy()


def close(found, expected):
    """Batches of another size may round the last bit another way."""
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-6)


# On the real server


@needs("torch")
def test_pytorch(client, deploy):
    import nets

    module = trained(nets.Fixed())
    group = deploy(nets.Net(model=module), INPUTS, Y, timeout=300)
    assert client.version(group.model).format == "safetensors"
    close(called_in_bulk(client, group.name), answers_of(module)[:, 0])


@needs("torch")
def test_pytorch_without_a_class(client, deploy):
    import nets

    module = trained(nets.Sized(16))
    assert module.training
    group = deploy(module, INPUTS, {name: pa.float32() for name in ("low", "middle", "high")}, timeout=300)
    assert module.training  # saving has left the mode as it was
    assert client.version(group.model).format == "torch.export"
    found = called_in_bulk(client, group.name).to_pylist()
    close([list(one.values()) for one in found], answers_of(module))
    assert list(found[0]) == ["low", "middle", "high"]


@needs("catboost")
@pytest.mark.parametrize("kind", ["CatBoostRegressor", "CatBoostClassifier"])
def test_catboost(client, deploy, kind):
    import catboost

    is_classifier = kind == "CatBoostClassifier"
    target = np.where(TARGET > 1, "high", "low") if is_classifier else TARGET
    model = getattr(catboost, kind)(iterations=30, verbose=False, allow_writing_files=False).fit(MATRIX, target)
    group = deploy(model, INPUTS, {"y": str if is_classifier else float}, timeout=300)
    assert client.version(group.model).format == "cbm"
    assert called_in_bulk(client, group.name).to_pylist() == model.predict(MATRIX).reshape(-1).tolist()


@needs("tensorflow")
def test_tensorflow(client, deploy):
    import keras

    assert keras.backend.backend() == "tensorflow"
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(MATRIX, TARGET, epochs=2, verbose=0)
    group = deploy(model, INPUTS, Y, timeout=300)
    assert client.version(group.model).format == "keras"
    close(called_in_bulk(client, group.name), model.predict(MATRIX, verbose=0)[:, 0])


# The ways of saving


@needs("torch")
def test_pytorch_ways(lay, monkeypatch):
    """safetensors, then an exported program of a bare model, then TorchScript, then pickle; each says why not the one before."""
    import nets
    import torch

    fixed = trained(nets.Fixed()).eval()
    expected = answers_of(fixed)[:, 0]
    bare = lay(fixed, INPUTS, Y)
    assert (bare.saved["format"], bare.saved["module"], bare.saved["class"]) == ("safetensors", "nets", "Fixed")
    assert "nets.py" in bare.sources()
    close(bare.predict(TABLE), expected)

    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    without = lay(fixed, INPUTS, Y)
    assert without.saved["format"] == "torch.export"
    assert "no safetensors: safetensors is not installed" in without.saved["why"]
    close(without.predict(TABLE), expected)
    one_row = without.predict(TABLE.slice(0, 1))
    close(one_row, expected[:1])
    monkeypatch.undo()

    for program in (
        torch.jit.script(fixed),
        torch.export.export(fixed, (torch.zeros(2, 2),), dynamic_shapes=({0: torch.export.Dim.AUTO},)),
    ):
        laid = lay(program, INPUTS, Y)
        assert laid.saved["format"] == ("torchscript" if isinstance(program, torch.jit.ScriptModule) else "torch.export")
        close(laid.predict(TABLE), expected)


@needs("torch")
def test_pytorch_in_a_class_falls_back_to_torchscript_and_pickle(lay):
    import nets

    sized = trained(nets.Sized(4)).eval()
    laid = lay(nets.Net(model=sized), INPUTS, Y)
    assert laid.saved["format"] == "torchscript"
    assert "no safetensors: Sized() without arguments fails" in laid.saved["why"]
    close(laid.predict(TABLE), answers_of(sized)[:, 0])
    pythonic = nets.Pythonic(4).eval()
    with pytest.warns(UserWarning, match="nets.Pythonic is saved as pickle .*no TorchScript"):
        laid = lay(nets.Net(model=pythonic), INPUTS, Y)
    assert laid.saved["format"] == "pickle"
    close(laid.predict(TABLE), answers_of(pythonic)[:, 0])


@needs("torch")
def test_pytorch_of_lists_and_half_precision(lay):
    import nets
    import torch

    module = nets.Fixed().to(torch.bfloat16).eval()
    table = pa.table({"v": pa.array(MATRIX.tolist(), pa.list_(pa.float32(), 2))})
    laid = lay(module, {"v": pa.list_(pa.float32(), 2)}, Y)
    with torch.inference_mode():
        expected = module(torch.from_numpy(MATRIX).to(torch.float32).to(torch.bfloat16)).float().numpy()[:, 0]
    np.testing.assert_allclose(laid.predict(table).to_numpy(), expected, rtol=0.02, atol=0.02)


@needs("tensorflow")
def test_a_keras_model_with_code_in_it_is_refused(lay):
    import keras
    from sluice import DeclarationError

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    with pytest.raises(DeclarationError, match="the Keras model is not saved safely"):
        lay(model, INPUTS, {"y": pa.list_(pa.float32())})


@needs("tensorflow")
def test_a_keras_model_of_several_inputs_gets_them_by_name(lay):
    import keras

    a, b = keras.layers.Input((1,), name="a"), keras.layers.Input((1,), name="b")
    model = keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Concatenate()([a, b])))
    laid = lay(model, INPUTS, Y)
    expected = model.predict({"a": MATRIX[:, :1], "b": MATRIX[:, 1:]}, verbose=0)[:, 0]
    close(laid.predict(TABLE), expected)
    assert DataFrame(TABLE).columns == ["a", "b"]


# Tensors as answers


@needs("torch")
def test_a_tensor_is_a_column_or_a_matrix_as_numpy_is():
    import torch
    from sluice.models.coercion import PredictionError, coerced
    from sluice.models.schema import schema_fields

    column, lists = (schema_fields({"y": kind}, "output_schema") for kind in (pa.float32(), pa.list_(pa.float32(), 2)))
    needs_gradient = torch.ones(3, requires_grad=True) * 2
    assert coerced({"y": needs_gradient}, column, 3)["y"].to_pylist() == [2.0, 2.0, 2.0]
    assert coerced(needs_gradient, column, 3)["y"].to_pylist() == [2.0, 2.0, 2.0]
    assert coerced({"y": torch.ones(3, 2)}, lists, 3)["y"].to_pylist() == [[1.0, 1.0]] * 3
    with pytest.raises(PredictionError, match="a tensor that is no NumPy array: .*BFloat16"):
        coerced({"y": torch.ones(3, dtype=torch.bfloat16)}, column, 3)


@needs("tensorflow")
def test_a_tensor_of_tensorflow_is_a_column():
    import tensorflow
    from sluice.models.coercion import coerced
    from sluice.models.schema import schema_fields

    assert coerced({"y": tensorflow.ones(2)}, schema_fields(Y, "output_schema"), 2)["y"].to_pylist() == [1.0, 1.0]

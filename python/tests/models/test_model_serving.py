"""A model in a handler process: frames in and out, loading once, and everything that can be wrong with it."""

import json
import pickle
import sys

import classes
import pyarrow as pa
import pytest
from replicas import ModelHost
from sluice import DeclarationError
from sluice.models.serializers import restore
from sluice.models.serving import load

X = {"x": float}
Y = {"y": float}
ROWS = pa.table({"x": [1.0, 2.0, 3.0]})


@pytest.fixture
def host(lay):
    """Starts a handler process over ``host(model, inputs, outputs, **options)``."""
    running = []

    def start(*args, **options):
        laid = lay(*args, **options)
        running.append(ModelHost(laid))
        return running[-1]

    yield start
    for one in running:
        one.__exit__()


def test_batches_go_through_predict(host):
    one = host(classes.Scaled(factor=2.0), X, Y).ready()
    assert one.rows(x=[1.0, 2.5]) == [2.0, 5.0]
    assert one.rows(x=[None, 1.0])[1] == 2.0
    assert one.rows(x=[7]) == [14.0]
    header, found = one.call(ROWS, ROWS)
    assert (header["rows"], found.to_pylist()) == (6, [2.0, 4.0, 6.0] * 2)
    header, _ = one.call(pa.table({"x": pa.array([], pa.float64())}))
    assert (header["type"], header["rows"]) == ("result", 0)


def test_several_outputs_are_a_struct(host, tmp_path):
    (tmp_path / "offset.txt").write_text("1")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("w")
    files = [tmp_path / "offset.txt", tmp_path / "words"]
    one = host(classes.FromFiles(files=files), X, {"y": float, "word": str}).ready()
    assert one.rows(x=[1.0]) == [{"y": 2.0, "word": "w"}]
    assert one.process.stdout.readline().decode().startswith(f"loaded in {one.process.pid} from /")


@pytest.mark.filterwarnings("ignore:.*is saved as pickle")
def test_the_model_is_loaded_once(host):
    one = host(classes.Counted(model=classes.Doubler()), X, Y, allow_pickle=True).ready()
    assert one.rows(x=[1.0]) == [2.0]
    assert one.rows(x=[2.0]) == [4.0]


def test_zero_rows_have_the_declared_type(lay):
    laid = lay(classes.Scaled(), X, Y)
    served = load(laid.spec, laid.home / "source", laid.home / "artifacts")
    assert served.predict_batch(ROWS.slice(0, 0)).type == pa.float64()
    assert served.predict_batch(ROWS).to_pylist() == [1.0, 2.0, 3.0]


def test_input_columns_may_come_in_any_order(lay):
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.0, 1.0, 10.0])
    laid = lay(model, {"a": float, "b": float}, Y)
    assert laid.predict(pa.table({"b": [1.0], "a": [2.0]})).to_pylist() == pytest.approx([12.0])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("column", "predict returned the columns 'z'; output_schema has 'y': the answer lacks 'y' and has 'z' too"),
        ("extra", "the answer has 'z' too"),
        ("type", "column 'y' of output_schema is double, and predict returned string"),
        ("length", "predict got 3 rows and returned 2 in the column 'y'; it must return one value for each row"),
        ("list", "predict returned list; it must return a sluice.DataFrame"),
        ("none", "predict returned None"),
    ],
)
def test_a_wrong_answer_fails_its_batch_and_says_how(host, how, said):
    one = host(classes.Wrong(how=how), X, Y).ready()
    error = one.error(x=[1.0, 2.0, 3.0])
    assert said in error["message"]
    assert (error["code"], error["kind"]) == ("handler_output_invalid", "PredictionError")
    assert one.error(x=[1.0, 2.0, 3.0])["message"] == error["message"]  # the process goes on


def test_an_exception_of_predict_fails_its_batch(host):
    one = host(classes.Price(), X, Y).ready()
    error = one.error(x=[1.0])
    assert (error["code"], error["kind"]) == ("handler_error", "AttributeError")
    assert "classes.py" in error["traceback"] and "serving.py" not in error["traceback"]


def test_a_class_that_fails_to_load_says_why(host):
    header, _ = host(classes.Crashing(), X, Y).receive()
    assert header["type"] == "start_failed"
    assert header["error"]["message"] == "the weights are not for this machine"
    assert "in load_model" in header["error"]["traceback"]


def test_a_class_that_dies_while_it_loads_ends_the_process(host):
    one = host(classes.Dying(), X, Y)
    with pytest.raises(EOFError):
        one.receive()
    assert one.process.wait(30) == 3


# Files that are not what was registered


def test_a_changed_pickle_is_not_loaded(lay):
    with pytest.warns(UserWarning, match="classes.Doubler is saved as pickle"):
        laid = lay(classes.Doubler(), X, Y)
    assert (laid.saved["format"], laid.saved["serializer"]) == ("pickle", "pickled")
    assert laid.predict(ROWS).to_pylist() == [2.0, 4.0, 6.0]
    path = laid.home / "artifacts" / laid.saved["path"]
    path.write_bytes(pickle.dumps(Exploding(str(laid.home / "exploded"))))
    ran = laid.run(ROWS)
    assert ran.returncode != 0
    assert f"and {laid.saved['sha256']} was registered: it was changed, and is not loaded" in ran.stderr
    assert not (laid.home / "exploded").exists()


class Exploding:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.filterwarnings("ignore:.*is saved as pickle")
def test_a_pickle_is_refused_outside_of_its_replica(lay):
    laid = lay(classes.Doubler(), X, Y)
    with pytest.raises(DeclarationError, match="it is loaded only in a replica of the model, not here"):
        restore(laid.saved, laid.home / "artifacts")
    with pytest.raises(DeclarationError, match="can only be saved as pickle .* and allow_pickle is False"):
        lay(classes.Doubler(), X, Y, allow_pickle=False)


def test_objects_that_nothing_saves_are_refused(lay):
    holder = classes.Doubler()
    holder.lock = __import__("threading").Lock()
    with pytest.raises(
        DeclarationError, match=r"cannot be pickled \(cannot pickle .*lock.*\); put functions .* or hand its files over"
    ):
        lay(holder, X, Y)


def test_a_skops_file_loads_no_type_that_was_not_registered(lay):
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    laid = lay(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), X, Y)
    assert (laid.saved["format"], laid.saved["trusted"]) == ("skops", [])
    import skops.io

    other = make_pipeline(FunctionTransformer(classes.scaled), LinearRegression())
    skops.io.dump(other, laid.home / "artifacts" / laid.saved["path"])
    assert "UntrustedTypesFoundException" in laid.run(ROWS).stderr


def test_an_unknown_serializer_or_loader_says_that_sluice_is_older(lay):
    laid = lay(classes.Scaled(), X, Y)
    laid.loader["model"] = {"serializer": "os", "path": "x"}
    assert "the model was saved by 'os', which this version of sluice does not know" in laid.run(ROWS).stderr
    laid.loader["version"] = 99
    assert "registered by a newer sluice (loader 99)" in laid.run(ROWS).stderr


def test_a_version_that_others_registered_needs_no_loader(lay, monkeypatch):
    monkeypatch.setitem(sys.modules, "classes", classes)  # loading by path makes the module anew
    laid = lay(classes.Legacy(), X, Y)
    laid.spec["model"] = {"name": "m", "version": 1, "files": [{"path": "a.txt"}, {"path": "d/b.txt"}], "loader": None}
    assert laid.predict(ROWS).to_pylist() == [1.0, 2.0, 3.0]
    served = load(laid.spec, laid.home / "source", laid.home / "artifacts")
    assert sorted(served.handler.files) == ["a.txt", "d"]
    laid.spec["output"]["type"] = "int8"
    assert laid.predict(pa.table({"x": [1.0]})).to_pylist() == [1]
    assert "which does not cast to int8" in laid.run(pa.table({"x": [1.5]})).stderr


def test_what_is_no_class_is_refused(lay):
    laid = lay(classes.Scaled(), X, Y)
    laid.spec["handler"]["attribute"] = "np"
    assert "np of classes.py is <module 'numpy'" in laid.run(ROWS).stderr
    assert json.loads(json.dumps(laid.loader)) == laid.loader

"""What of a class, its modules and its files is shipped: from a file, a package, a script, a notebook."""

import base64
import json
import os
import subprocess
import sys
import textwrap

import classes
import kinds.nested
import pyarrow as pa
import pytest
from sluice import DataFrame, DeclarationError

X = {"x": float}
Y = {"y": float}
ROWS = pa.table({"x": [1.0, 2.0]})


def text_of(laid, path):
    return next(base64.b64decode(one["content"]).decode() for one in laid.package.source if one["path"] == path)


def test_a_class_of_a_file_is_shipped_with_what_it_imports_from_beside_itself(lay):
    laid = lay(classes.Scaled(factor=3.0), X, Y)
    assert laid.package.handler == {"file": "classes.py", "attribute": "Scaled"}
    assert laid.sources() == ["classes.py", "kinds/__init__.py", "kinds/constants.py", "kinds/scaling.py"]
    assert (laid.loader["attributes"], laid.loader["model"], laid.package.dependencies) == ('{"factor": 3.0}', None, [])
    assert laid.package.interpreter == os.path.abspath(sys.executable)
    assert laid.predict(ROWS).to_pylist() == [3.0, 6.0]


def test_a_constructor_of_its_own_gets_its_arguments_again(lay):
    model = classes.Doubler()
    handler = classes.Constructed(model, 3.0, 1.0, 2.0, offset=10.0, more_of_it=100.0)
    assert lay(handler, X, Y, allow_pickle=True).predict(ROWS).to_pylist() == [116.0, 119.0]
    assert lay(classes.Settings(4.0), X, Y).predict(ROWS).to_pylist() == [4.0, 8.0]
    with pytest.raises(DeclarationError, match="the argument factor of Constructed is tuple, which JSON does not hold"):
        lay(classes.Constructed(model, (1, 2)), X, Y)


@pytest.mark.filterwarnings("ignore:.*is saved as pickle")
def test_the_base_class_is_what_the_decorator_adds(lay, tmp_path):
    (tmp_path / "words.txt").write_text("two words")
    handler = classes.Checked(model=classes.Doubler(), files=[tmp_path / "words.txt"], factor=10.0)
    handler.load_model()
    assert handler.predict(DataFrame(ROWS))["y"].tolist() == [40.0, 80.0]
    assert lay(handler, X, Y).predict(ROWS).to_pylist() == [40.0, 80.0]
    assert lay(classes.Checked(files=[tmp_path / "words.txt"], model=classes.Doubler()), X, Y).predict(ROWS).to_pylist() == [
        4.0,
        8.0,
    ]


def test_a_constructor_that_works_with_the_model_says_where_that_belongs(lay):
    model = classes.Doubler()
    model.width = 3
    said = lay(classes.NeedsItsModel(model), X, Y).run(ROWS).stderr
    assert "NeedsItsModel() fails in the replica: AttributeError: 'NoneType' object has no attribute 'width'" in said
    assert "the model and the files come in load_model" in said


def test_a_class_of_a_package_keeps_its_name_and_its_relative_imports(lay):
    laid = lay(kinds.nested.Nested(), X, Y)
    assert laid.package.handler == {"file": "kinds/nested.py", "attribute": "Nested"}
    assert laid.loader["module"] == "kinds.nested"
    assert laid.predict(ROWS).to_pylist() == [3.0, 6.0]


def test_a_legacy_handler_gets_a_record_batch(lay):
    assert lay(classes.Legacy(), X, Y).predict(ROWS).to_pylist() == [1.0, 2.0]


def test_files_and_folders_lie_under_their_names(lay, tmp_path):
    (tmp_path / "offset.txt").write_text("10")
    (tmp_path / "words" / "deep").mkdir(parents=True)
    (tmp_path / "words" / "deep" / "a.txt").write_text("hello")
    (tmp_path / "words" / "link.bin").symlink_to(tmp_path / "words" / "deep" / "a.txt")
    handler = classes.FromFiles(files=[tmp_path / "offset.txt"])
    laid = lay(handler, X, {"y": float, "word": str}, files=[tmp_path / "words"])
    assert sorted(laid.package.files) == ["offset.txt", "words/deep/a.txt", "words/link.bin"]
    assert laid.predict(ROWS).to_pylist() == [{"y": 11.0, "word": "hello"}, {"y": 12.0, "word": "hello"}]


def test_links_out_of_a_folder_and_missing_files_are_refused(lay, tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(DeclarationError, match="passwd is a link to /etc/passwd, outside of"):
        lay(classes.Price(), X, Y, files=[tmp_path / "words"])
    with pytest.raises(DeclarationError, match="gone.bin, which is not there"):
        lay(classes.Price(), X, Y, files=[tmp_path / "gone.bin"])
    (tmp_path / "w.bin").write_text("")
    with pytest.raises(DeclarationError, match="files names 'a/b'; a name has no slashes"):
        lay(classes.Price(files={"a/b": tmp_path / "w.bin"}), X, Y)


def test_a_file_called_model_and_a_model_object_do_not_meet(lay, tmp_path):
    from sklearn.linear_model import LinearRegression

    (tmp_path / "model").write_text("mine")
    laid = lay(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), X, Y, files=[tmp_path / "model"])
    assert sorted(laid.package.files) == ["model", "sluice-model/model.skops"]
    assert laid.predict(ROWS).to_pylist() == pytest.approx([2.0, 4.0])


def test_what_cannot_be_shipped_is_refused(lay):
    with pytest.raises(DeclarationError, match="inner.<locals>.Hidden is defined inside of a function"):
        lay(classes.inner()(), X, Y)
    with pytest.raises(DeclarationError, match=r"model is the class Price; make it: model=Price\(model=…\)"):
        lay(classes.Price, X, Y)
    with pytest.raises(DeclarationError, match="model is None"):
        lay(None, X, Y)
    with pytest.raises(DeclarationError, match="the attribute factor of Scaled is set, which JSON does not hold"):
        lay(classes.Scaled(factor={1}), X, Y)
    with pytest.raises(DeclarationError, match="the path 'weights.bin'; only .onnx files"):
        lay("weights.bin", X, Y)


# Scripts and notebooks

DRIVER = """
import json
import os
from sluice.models.registration import PackageOptions, packaged
from sluice.models.schema import schema_fields

def shown(model):
    fields = schema_fields({"x": float}, "input_schema"), schema_fields({"y": float}, "output_schema")
    with packaged(model, PackageOptions(*fields)) as package:
        print("PACKAGE", json.dumps({"handler": package.handler, "source": package.source, "loader": package.loader}))
"""


def run_script(tmp_path, text, *, name="train.py", flags=()):
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "beside.py").write_text("from deeper import TWO\n\ndef helper(v):\n    return v * TWO\n")
    (tmp_path / "deeper.py").write_text("TWO = 2\n")
    (tmp_path / name).write_text(textwrap.dedent(text))
    command = [sys.executable, *(flags or [str(tmp_path / name)])]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    line = next((line for line in ran.stdout.splitlines() if line.startswith("PACKAGE ")), None)
    return ran, None if line is None else json.loads(line[8:])


def served(tmp_path, package):
    """Runs the shipped source alone, in another process."""
    home = tmp_path / "alone"
    for one in package["source"]:
        (home / one["path"]).parent.mkdir(parents=True, exist_ok=True)
        (home / one["path"]).write_bytes(base64.b64decode(one["content"]))
    code = (
        "import json, sys, pyarrow as pa; from sluice.models.serving import load;"
        "m = load(json.load(open('spec.json')), '.', '.'); print(m.predict_batch(pa.table({'x': [1.0, 2.0]})).to_pylist())"
    )
    spec = {"handler": package["handler"], "output": {"type": "float64"}, "model": {"loader": package["loader"]}}
    (home / "spec.json").write_text(json.dumps(spec))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


SCRIPT = """
    from __future__ import annotations
    import logging
    import math as maths
    import numpy as np
    from driver import shown
    from beside import helper
    from sluice import model_handler

    LOG = logging.getLogger("model")
    FACTORS = {"a": [1, 2.5], "b": (None, True)}
    trained = np.linalg.inv(np.eye(50))   # heavy: not to run again

    def twice(v):
        return helper(v) * maths.floor(FACTORS["a"][0])

    class Base:
        offset = 0.5

    @model_handler
    class Model(Base):
        def predict(self, df: Undefined):
            trained = "a local name, not the script's"
            LOG.info(trained)
            return {"y": twice(np.asarray(df["x"])) + self.offset}

    shown(Model())
    raise SystemExit
"""


def test_a_class_of_a_script_is_cut_out_with_what_it_uses(tmp_path):
    _, package = run_script(tmp_path, SCRIPT)
    assert package["handler"] == {"file": "train.py", "attribute": "Model"}
    assert [one["path"] for one in package["source"]] == ["beside.py", "deeper.py", "train.py"]
    text = base64.b64decode(package["source"][-1]["content"]).decode()
    assert "shown" not in text and "linalg" not in text and "SystemExit" not in text
    assert "FACTORS = {'a': [1, 2.5], 'b': (None, True)}" in text
    assert "LOG = logging.getLogger('model')" in text
    assert served(tmp_path, package) == "[2.5, 4.5]"


def test_a_script_keeps_its_logger_lambdas_and_small_classes(tmp_path):
    script = """
        from __future__ import annotations
        import collections
        import logging
        from dataclasses import dataclass
        from driver import shown
        from beside import helper
        import sluice

        log = logging.getLogger(__name__)
        half = lambda v: helper(v) / FOUR
        FOUR = 4
        Point = collections.namedtuple("Point", ["x", "y"])

        @dataclass
        class Settings:
            offset: float = 0.25

        @sluice.model_handler
        class Model:
            def predict(self, df):
                log.info("%s", Point(1, 2).x)
                return {"y": half(df["x"].to_numpy()) + Settings().offset}

        shown(Model())
    """
    ran, package = run_script(tmp_path, script)
    assert package is not None, ran.stderr
    assert served(tmp_path, package) == "[0.75, 1.25]"


def test_a_script_that_has_a_modules_name_is_renamed(tmp_path):
    _, package = run_script(tmp_path, SCRIPT, name="sluice-train.py")
    assert package["handler"]["file"] == "sluice_handler.py"


def test_a_class_from_standard_input_says_that_its_source_cannot_be_found(tmp_path):
    ran, _ = run_script(tmp_path, "", flags=["-c", textwrap.dedent(SCRIPT).strip()])
    assert "Model of __main__ cannot be sent to a replica: its source cannot be found" in ran.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("big = np.eye(3)\n", "Model uses big, a numpy.ndarray that the script computes"),
        ("big = open(__file__)\n", "Model uses big, a _io.TextIOWrapper that the script computes"),
        ("table = np.eye(3)\nbig = lambda: table\n", "big uses table, a numpy.ndarray that the script computes"),
    ],
)
def test_a_computed_object_is_refused_with_a_way_out(tmp_path, text, said):
    script = f"""
import numpy as np
from driver import shown
from sluice import model_handler
{text}
@model_handler
class Model:
    def predict(self, df):
        return big
shown(Model())
"""
    if "open" in text:
        script = script.replace("big = open(__file__)", "import pathlib\nbig = pathlib.Path(__file__).open()")
    ran, package = run_script(tmp_path, script)
    assert package is None
    assert said in ran.stderr


def test_a_class_of_a_notebook_is_cut_out_of_its_cells(tmp_path):
    """Cells as IPython runs them: compiled under names of their own, with their text in linecache and in ``In``."""
    cells = [
        "%matplotlib inline\nimport numpy as np\nfrom dataclasses import dataclass as plain\nfrom beside import helper\n"
        "from driver import shown\nfrom sluice import model_handler",
        "SCALE = 3",
        "!pip list\n@plain\nclass Settings:\n    offset: float = 0.5",
        "@model_handler\nclass Model:\n    def predict(self, df):\n"
        "        return {'y': helper(np.asarray(df['x'])) * SCALE + Settings().offset}",
        "shown(Model())",
    ]
    kernel = f"""
import linecache, sys
cells = {cells!r}
space = sys.modules["__main__"].__dict__
space.pop("__file__", None)
space["In"] = [""]
for number, cell in enumerate(cells):
    name = f"<ipython-input-{{number}}>"
    space["In"].append(cell)
    run = "".join("pass\\n" if line[0] in "%!" else line for line in cell.splitlines(True))
    linecache.cache[name] = (len(run), None, run.splitlines(True), name)
    exec(compile(run, name, "exec"), space)
"""
    ran, package = run_script(tmp_path, "", flags=["-c", kernel])
    assert package is not None, ran.stderr
    assert package["handler"] == {"file": "sluice_handler.py", "attribute": "Model"}
    assert served(tmp_path, package) == "[6.5, 12.5]"


def test_registering_while_a_replica_imports_is_refused(tmp_path):
    (tmp_path / "loop.py").write_text("import sluice\nsluice.Client()\n")
    ran = subprocess.run([sys.executable, "-m", "sluice.manifest", "loop.py"], capture_output=True, text=True, cwd=tmp_path)
    assert "which would deploy for ever" in json.loads(ran.stdout)["error"]["message"]


def test_an_installed_class_is_imported_and_not_shipped(lay, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "far_models.py").write_text(
        "from sluice import model_handler\n@model_handler\nclass Far:\n    def predict(self, df):\n        return df\n"
    )
    monkeypatch.syspath_prepend(str(installed))
    import far_models

    laid = lay(far_models.Far(), X, Y)
    assert text_of(laid, "sluice_handler.py") == "from far_models import Far\n"


def test_the_module_name_must_follow_from_the_path(lay, tmp_path):
    """A class whose module was loaded under another name is found by its file."""
    import importlib.util

    (tmp_path / "odd.py").write_text(
        "from sluice import model_handler\n@model_handler\nclass Odd:\n    def predict(self, df):\n        return df\n"
    )
    spec = importlib.util.spec_from_file_location("another_name", tmp_path / "odd.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["another_name"] = module
    try:
        spec.loader.exec_module(module)
        laid = lay(module.Odd(), X, X)
    finally:
        del sys.modules["another_name"]
    assert laid.package.handler == {"file": "odd.py", "attribute": "Odd"}
    assert laid.predict(ROWS).to_pylist() == [1.0, 2.0]

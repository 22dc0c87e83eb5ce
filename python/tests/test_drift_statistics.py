"""The server's drift statistics (shared/domain/drift.ts) against SciPy's, and against PSI as it is written in textbooks."""

import json
import math
import subprocess
from collections import Counter

import numpy as np
import pytest
from scipy.stats import ks_2samp
from server_process import ROOT

SCRIPT = """
const { categorySide, driftOf, driftReference, orderedSide } = await import(process.argv[1]);
const side = ({ kind, values, nulls }) =>
  kind === 'ordered' ? orderedSide(Float64Array.from(values, Number), nulls) : categorySide(values, nulls);
const cases = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map(([a, b]) => driftOf(driftReference(side(a)), side(b)))));
"""


def ordered(values, nulls=0):
    return {"kind": "ordered", "values": [float(value) for value in values], "nulls": nulls}


def texts(values, nulls=0):
    return {"kind": "category", "values": list(values), "nulls": nulls}


def number_cases():
    random = np.random.default_rng(20_261_121)
    normal = random.normal(0, 1, 5000)
    zeros = np.where(random.random(3000) < 0.6, 0.0, random.exponential(2, 3000))
    yield "moved", ordered(normal), ordered(random.normal(0.5, 1, 3000))
    yield "alike", ordered(normal), ordered(random.normal(0, 1, 50_000))
    yield "the same", ordered(normal), ordered(normal)
    yield "whole numbers", ordered(random.poisson(3, 1000)), ordered(random.poisson(4, 777))
    yield "many noughts", ordered(zeros), ordered(zeros[:1000] * 1.5)
    yield "constant", ordered([5] * 40), ordered([5] * 30 + [3] * 10)
    yield "constant elsewhere", ordered([5] * 40), ordered([3] * 10)
    yield "apart", ordered(random.random(100)), ordered(random.random(100) + 2)
    yield "one row each", ordered([1]), ordered([2])
    yield "fewer than bins", ordered([3, 1, 2]), ordered([2, 2, 2, 9])
    yield "nulls", ordered(normal[:500], 20), ordered(normal[500:900], 200)
    yield "nothing but nulls", ordered([], 20), ordered([], 7)
    yield "nulls on one side", ordered(normal[:100]), ordered([], 9)
    yield "no numbers", ordered([math.nan] * 5), ordered([math.nan, 1.0])
    yield "infinite", ordered([*normal[:300], math.inf, -math.inf] * 3), ordered([math.inf, -math.inf, 0.0, math.nan])
    yield "infinite half", ordered([math.inf] * 50 + [1.0] * 50), ordered([math.inf] * 10 + [1.0] * 90)
    yield "empty", ordered([]), ordered([1.0])
    yield "empty window", ordered([1.0]), ordered([])


def text_cases():
    random = np.random.default_rng(7)
    many = [f"c{int(value)}" for value in random.zipf(1.6, 20_000) if value < 1000]
    yield "two", texts(["a"] * 70 + ["b"] * 30), texts(["a"] * 40 + ["b"] * 60)
    yield "new", texts(["a", "b"]), texts(["c", "d", "a"])
    yield "many", texts(many[:9000], 100), texts(many[9000:])
    yield "booleans", texts([True] * 3 + [False]), texts([False] * 5, 5)
    yield "all apart", texts([f"t{i:03}" for i in range(50)]), texts([f"t{i:03}" for i in range(40, 90)])
    yield "empty", texts([]), texts(["a"])


def psi(shares):
    """From pairs of shares, one for each bin."""
    floored = [(max(p, 0.0001), max(q, 0.0001)) for p, q in shares]
    return sum((p - q) * math.log(p / q) for p, q in floored)


def number_bin(deciles):
    """Names the bin of a value; a decile that coincides with another one has a bin of its own."""
    common = {decile for decile in deciles if deciles.count(decile) > 1}

    def name(value):
        if math.isnan(value):
            return "nan"
        if value in common:
            return ("at", value)
        above = [decile for decile in deciles if value <= decile]
        return ("below", min(above)) if above else "above all"

    return name


def text_bin(reference):
    top = sorted(Counter(reference).items(), key=lambda item: (-item[1], item[0]))[:20]
    known = {value for value, _ in top}
    return lambda value: value if value in known else ("other",)


def expected_psi(reference, window):
    if reference["kind"] == "ordered":
        numbers = sorted(value for value in reference["values"] if not math.isnan(value))
        deciles = [numbers[-(-tenth * len(numbers) // 10) - 1] for tenth in range(1, 10)] if numbers else []
        name = number_bin(deciles)
    else:
        name = text_bin(reference["values"])
    sides = []
    for side in (reference, window):
        bins = Counter(name(value) for value in side["values"])
        bins["null"] += side["nulls"]
        rows = bins.total()
        if rows == 0:
            return None
        sides.append({bin: count / rows for bin, count in bins.items()})
    return psi([(sides[0].get(bin, 0), sides[1].get(bin, 0)) for bin in {*sides[0], *sides[1]}])


def expected_ks(reference, window):
    if reference["kind"] != "ordered":
        return None
    a, b = ([value for value in side["values"] if not math.isnan(value)] for side in (reference, window))
    return float(ks_2samp(a, b).statistic) if a and b else None


CASES = [*number_cases(), *(("texts " + name, *sides) for name, *sides in text_cases())]


@pytest.fixture(scope="module")
def figures():
    """What the server computes, by the case's name."""
    told = json.dumps([[spoken(one) for one in sides] for _, *sides in CASES])
    module = ROOT / "shared/domain/drift.ts"
    command = [ROOT / "node_modules/.bin/node", "-e", f"(async () => {{{SCRIPT}}})()", module]
    done = subprocess.run(command, input=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(zip((name for name, *_ in CASES), json.loads(done.stdout), strict=True))


def spoken(side):
    """JSON has no NaN and no infinity: numbers go as the texts that JavaScript reads."""
    if side["kind"] != "ordered":
        return side
    words = {math.inf: "Infinity", -math.inf: "-Infinity"}
    return {**side, "values": ["NaN" if value != value else words.get(value, value) for value in side["values"]]}


@pytest.mark.parametrize(("name", "reference", "window"), CASES, ids=[name for name, *_ in CASES])
def test_figures_are_those_of_scipy_and_of_the_textbook(figures, name, reference, window):
    assert figures[name]["psi"] == (None if (psi := expected_psi(reference, window)) is None else pytest.approx(psi, abs=1e-9))
    assert figures[name]["ks"] == (None if (ks := expected_ks(reference, window)) is None else pytest.approx(ks, abs=1e-12))


def test_a_moved_column_is_told_from_one_that_stays(figures):
    assert figures["moved"]["psi"] > 0.2 and figures["moved"]["ks"] > 0.15
    assert figures["alike"]["psi"] < 0.02 and figures["alike"]["ks"] < 0.03
    assert figures["the same"] == {"psi": 0, "ks": 0}
    assert figures["constant elsewhere"]["psi"] > 5

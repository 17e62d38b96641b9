"""The drawing of an architecture: every layer is there, reads are where the policy has them."""

import xml.etree.ElementTree as ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from lets.plan.compile import compile_plan
from lets.plan.report import Request, plan_report
from lets.plan.spec import TaskSpec
from lets.plan.timing import MachineRates
from lets.policy import Policy
from lets.report.architecture import architecture, architecture_svg, frozen_layers
from lets.report.drawing import Circle, Rect, Text
from lets.shape import EncoderShape

from tests.policies import policies

SHAPE = EncoderShape("tiny", 4, 16, 2, 32, 10_000)
RATES = MachineRates(((1, 1e9), (1000, 1e10)), 1e10, 1e-6)
RUNS = {"all rows": "full", "[CLS] row": "cls", "Q, K, V": "qkv", "K, V": "qkv"}
RUNS |= {"K, V and one Q": "qkv"}


def titles(tasks):
    shapes = architecture(tasks).shapes
    return [shape.title for shape in shapes if isinstance(shape, Rect | Circle)]


@given(st.lists(policies(4), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_frozen_layers_are_those_that_the_plan_runs(chosen):
    specs = [TaskSpec.from_policy(f"t{i}", policy, SHAPE) for i, policy in enumerate(chosen)]
    assert compile_plan(SHAPE, specs)
    layers = plan_report(Request(SHAPE, specs, 1, 8, RATES))["layers"]
    assert frozen_layers(chosen) == [RUNS.get(layer["frozen"], "none") for layer in layers]


def test_figure_2b():
    policy = Policy.preset("fig2b", 12)
    found = titles({"sst-2": policy})
    cases = [title.split(": ")[1] for title in found if title.startswith("sst-2, layer")]
    assert cases == [str(case) for case in policy.cases]
    assert [t for t in found if t.startswith("pools x^p")] == [
        f"pools x^p_{j}" for j in (0, 1, 2, 6)
    ]
    reads = [s for s in architecture({"a": policy}).shapes if "cached" in getattr(s, "title", "")]
    assert len(reads) == 4  # layers 3, 4, 7 and 9


def test_svg_stands_alone_and_names_are_text():
    svg = architecture_svg({"<script>&": Policy("pf", "pf")}, "tiny", {"<script>&": "2% new"})
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<script>&", "2% new", "tiny"} <= set(texts)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_everything_is_inside_the_picture():
    out = architecture({f"task {i}": Policy.preset("g-4", 24) for i in range(3)}, "e" * 40)
    for shape in out.shapes:
        if isinstance(shape, Text):
            assert 0 <= shape.x <= out.width
            assert 0 < shape.y < out.height

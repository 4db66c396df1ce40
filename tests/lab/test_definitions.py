"""The printed code of every layer runs, and computes what the network computes."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.errors import ArgumentError
from npmnv2.kernels import VARIANTS, resize_bilinear
from npmnv2.lab.definitions import definition, node_at, parts_at
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.layers import ResizeLike
from npmnv2.network.plan import Node, Plan
from npmnv2.network.ssd import detector
from npmnv2.weights.checkpoint import fold_batch_norms

SMALL = MobileNetV2Config(depth_multiplier=0.1, num_labels=4, expand_ratio=2)
PLANS = {
    "classifier": classifier(SMALL),
    "symmetric": classifier(SMALL.replace(tf_padding=False, output_stride=8)),
    "gelu": classifier(SMALL.replace(hidden_act="gelu")),
    "relu": classifier(SMALL.replace(hidden_act="relu", first_layer_is_expansion=False)),
    "window": classifier(SMALL.replace(pooling_window=2)),
    "segmenter": segmenter(SMALL.replace(output_stride=16, decoder=True, atrous_rates=(2,))),
    "detector": detector(SMALL),
}
SIZE = (65, 70)


def run_code(code: str, name: str, arguments, weights):
    namespace: dict = {}
    exec(compile(code, name, "exec"), namespace)
    return namespace[name](*arguments, weights)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_definition_runs_and_agrees(plan: Plan) -> None:
    weights = fold_batch_norms(plan, unit_gain_weights(plan, 3), np.float64)
    x = np.random.default_rng(0).uniform(-1, 1, (2, *SIZE, 3))
    values = {"image": x, **NumpyExecutable(plan, weights)(x, plan.endpoints)}
    for name in plan.endpoints:
        parts = parts_at(plan, name)
        own = {part.name for part in parts}
        inputs = dict.fromkeys(source for part in parts for source in part.inputs if source not in own)
        found = run_code(definition(plan, name, *SIZE), name, [values[source] for source in inputs], weights)
        assert found.shape == values[name].shape, name
        # A resize finds its points in float32, as TensorFlow does, whatever the type of the map.
        bound = 2e-6 if isinstance(parts[0].layer, ResizeLike) else 1e-9
        np.testing.assert_allclose(found, values[name], rtol=bound, atol=bound, err_msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
def test_resizes_in_every_convention(variant) -> None:
    nodes = (Node("target", Node, ("image",)), Node("resized", ResizeLike(variant), ("image", "target")))
    plan = Plan(nodes[1:])
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3))

    class Shapes(Plan):
        def shapes(self, height: int, width: int):
            return {"image": (5, 7, 3), "target": (9, 4, 3), "resized": (9, 4, 3)}

    code = definition(Shapes(plan.nodes), "resized", 5, 7)
    namespace: dict = {}
    exec(code, namespace)
    np.testing.assert_allclose(
        namespace["resized"](x, None, None), resize_bilinear(x, (9, 4), variant), rtol=1e-6, atol=1e-6
    )


def test_names_in_code_are_those_of_the_plan() -> None:
    code = definition(PLANS["classifier"], "layer_6/output", 64, 64)
    assert code.startswith("import numpy as np\n\n\ndef windows(")
    assert "def block_4(x, weights):" in code
    assert "return add" in code
    assert "stride" not in definition(PLANS["classifier"], "predictions", 64, 64)
    assert max(map(len, code.splitlines())) <= 100


def test_a_part_belongs_to_its_node() -> None:
    plan = PLANS["classifier"]
    assert node_at(plan, "block_3_expand").name == "block_3"
    assert node_at(plan, "predictions").name == "predictions"
    assert [part.name for part in parts_at(plan, "block_3_expand")] == ["block_3_expand"]


def test_what_has_no_name_has_no_code() -> None:
    plan = classifier(SMALL.replace(hidden_act=np.tanh))
    with pytest.raises(ArgumentError, match="Conv1 must have an activation with a name"):
        definition(plan, "Conv1", 64, 64)
    with pytest.raises(ArgumentError, match="did you mean block_3"):
        definition(plan, "blok_3", 64, 64)

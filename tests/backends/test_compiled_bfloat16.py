"""Whole networks in bfloat16: compiled kernels bit for bit against NumPy's definition."""

from __future__ import annotations

import numpy as np
import pytest
from engines import require_bfloat16_engine
from networks import PLANS, folded_weights, images

from npmnv2.backends.bfloat16 import Bfloat16Backend
from npmnv2.backends.compiled_bfloat16 import CompiledBfloat16Backend
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.ssd import detector

ENGINE = require_bfloat16_engine()
NETWORKS = {
    **PLANS,
    # A function follows every layer, so that NumPy takes part.
    "tanh": classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=5, hidden_act="tanh")),
    "SSDLite": detector(MobileNetV2Config(depth_multiplier=0.35, image_size=96, num_labels=4)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_endpoint_has_the_bits_of_the_definition(name: str) -> None:
    plan = NETWORKS[name]
    weights, x = folded_weights(plan), images(1)
    executable = CompiledBfloat16Backend(ENGINE).compile(plan, weights, 2)
    expected = Bfloat16Backend().compile(plan, weights)(x, plan.endpoints)
    for endpoint, value in executable(x, plan.endpoints).items():
        np.testing.assert_array_equal(value, expected[endpoint], endpoint)
    for node in plan.nodes:  # now fused
        np.testing.assert_array_equal(executable(x, [node.name])[node.name], expected[node.name], node.name)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_batch_and_threads_do_not_change_a_bit(n_threads: int) -> None:
    plan = PLANS["0.35"]
    x, last = images(7), plan.nodes[-1].name
    executable = CompiledBfloat16Backend(ENGINE).compile(plan, folded_weights(plan), n_threads)
    together = executable(x, [last])[last]
    one = CompiledBfloat16Backend(ENGINE).compile(plan, folded_weights(plan), 1)
    np.testing.assert_array_equal(together, np.concatenate([one(image[None], [last])[last] for image in x]))


def test_every_step_is_timed() -> None:
    plan = PLANS["0.35"]
    executable = CompiledBfloat16Backend(ENGINE).compile(plan, folded_weights(plan), 1)
    assert [timing.name for timing in executable.profile(images(1), [plan.nodes[-1].name])][-1] == "predictions"

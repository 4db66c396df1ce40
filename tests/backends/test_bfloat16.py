"""bfloat16 in NumPy: what is rounded, and what stays."""

from __future__ import annotations

import numpy as np
import pytest
from networks import PLANS, folded_weights, images

from npmnv2.backends.bfloat16 import Bfloat16Backend, last_values
from npmnv2.kernels import bfloat16
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Conv
from npmnv2.network.plan import Node, Plan
from npmnv2.network.ssd import detector


def test_all_values_are_bfloat16_but_for_the_last() -> None:
    plan = PLANS["DeepLab"]
    values = Bfloat16Backend().compile(plan, folded_weights(plan))(images(1), plan.endpoints)
    exact = {name for name, value in values.items() if not np.array_equal(bfloat16.round_to_bfloat16(value), value)}
    assert exact == {"logits_semantic"}


def test_what_a_function_makes_is_rounded_as_well() -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act="tanh"))
    values = Bfloat16Backend().compile(plan, folded_weights(plan))(images(1), plan.endpoints)
    exact = {name for name, value in values.items() if not np.array_equal(bfloat16.round_to_bfloat16(value), value)}
    assert exact == {"predictions"}


def test_a_product_of_the_image_is_rounded_even_if_no_layer_reads_it() -> None:
    layer = Conv(kernel=1, filters=4, norm=None)
    first = Node("first", layer, ("image",))
    assert last_values(Plan((first,), 3)) == frozenset()
    assert last_values(Plan((first, Node("second", layer, ("first",))), 3)) == {"second"}


@pytest.mark.parametrize(
    ("name", "last"),
    [("0.35", {"predictions"}), ("features", {"global_average_pooling2d"}), ("DeepLab", {"logits_semantic"})],
)
def test_values_that_no_layer_reads_stay_as_they_are(name: str, last: set[str]) -> None:
    assert last_values(PLANS[name]) == last


def test_boxes_and_scores_stay_as_they_are() -> None:
    last = last_values(detector(MobileNetV2Config(image_size=300, num_labels=91)))
    assert last == {f"BoxPredictor_{i}_{kind}Predictor" for i in range(6) for kind in ("BoxEncoding", "Class")}

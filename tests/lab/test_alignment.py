"""Which of a foreign run's values are which of ours."""

from __future__ import annotations

import numpy as np
import planted
import pytest
from weight_files import random_checkpoint

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.lab.alignment import Tap, align, best_path, completed, grouped, in_our_layout
from npmnv2.weights_tools import wiring


@pytest.fixture(scope="module")
def model():
    return MobileNetV2ForImageClassification.from_checkpoint(random_checkpoint(image_size=64), backend="numpy")


def test_groups_end_with_what_follows() -> None:
    x = np.zeros(1)
    taps = [
        Tap("conv", x, wiring.CONV, "image"),
        Tap("norm", x + 1, wiring.FOLLOW, "conv"),
        Tap("pad", x, wiring.PASS, "norm"),
        Tap("relu", x + 2, wiring.FOLLOW, "pad"),
        Tap("add", x + 3, wiring.ADD, "relu"),
        Tap("preprocess", x, wiring.FOLLOW, "image"),
    ]
    groups = grouped(taps)
    assert [(group.names, group.tap.value[0]) for group in groups] == [(("conv", "norm", "relu"), 2), (("add",), 3)]


@pytest.mark.parametrize("known", [True, False], ids=["kinds", "values alone"])
def test_a_graph_without_names(model, known) -> None:
    """Every layer as convolution, batch norm and activation; what went before has a fault."""
    x = model.prepare([np.full((64, 64, 3), 90, np.uint8)])
    x += np.random.default_rng(0).normal(0, 0.5, x.shape).astype(np.float32)
    reference = model.trace(x)
    values = planted.run(model, x, {"block_2_depthwise": planted.with_layer(activation="linear")})
    kinds = {"add": wiring.ADD, "depthwise": wiring.DEPTHWISE, "predictions": wiring.DENSE, "pooling2d": wiring.POOL}
    taps, last = [], "image"
    for number, part in enumerate(model.plan.parts()):
        value = values[part.name]
        kind = kinds.get(part.name.rpartition("_")[2], wiring.CONV) if known else ""
        taps.append(Tap(f"t{number}", value - 0.3 if kind == wiring.CONV else value, kind, last))
        last = f"t{number}"
        if kind == wiring.CONV:
            taps.append(Tap(f"t{number}_", value, wiring.FOLLOW, last))
    found, _, names = align(taps, model.plan, reference)
    parts = [part.name for part in model.plan.parts()]
    assert [names[name].strip("t_") for name in parts] == [str(number) for number in range(len(parts))]
    assert all(np.array_equal(found[name], values[name]) for name in parts)
    assert list(found) == list(model.plan.endpoints)


def test_names_count_more_than_order(model) -> None:
    reference = model.trace(model.prepare([np.zeros((64, 64, 3), np.uint8)]))
    taps = [Tap(name, reference[name]) for name in reversed(model.plan.endpoints)]
    found, _, names = align(taps, model.plan, reference)
    assert all(name == theirs for name, theirs in names.items())
    assert list(found) == list(model.plan.endpoints)


def test_values_that_are_none_of_ours(model) -> None:
    """What has neither a name nor a known kind, where others have names; and operations that no layer is."""
    reference = model.trace(model.prepare([np.zeros((64, 64, 3), np.uint8)]))
    wanted = "block_3_expand"
    named = [Tap(name, reference[name]) for name in model.plan.endpoints if name != wanted]
    for kind, taken in ((wiring.CONV, True), (wiring.OTHER, False), ("", False)):
        found, _, _ = align([*named, Tap("strange", reference[wanted], kind)], model.plan, reference)
        assert (wanted in found) == taken


def test_best_path() -> None:
    gain = np.array([[1, 2.5, -np.inf], [2, -np.inf, 1], [-np.inf, 1, 3]])
    assert best_path(gain) == [(0, 1), (2, 2)]
    assert best_path(np.full((2, 2), -np.inf)) == []


def test_layouts_by_shape() -> None:
    reference = np.arange(24.0).reshape(1, 2, 3, 4)
    for other in (reference, reference.transpose(0, 3, 1, 2), reference[0], reference[0].transpose(2, 0, 1)):
        assert np.array_equal(in_our_layout(other, reference), reference)
    pooled = np.arange(4.0).reshape(1, 4)
    for other in (pooled, pooled[0], pooled[:, None, None], pooled[..., None, None]):
        assert np.array_equal(in_our_layout(other, pooled), pooled)
    smaller = np.zeros((1, 4, 1, 3))
    assert in_our_layout(smaller, reference).shape == (1, 1, 3, 4), "the channels tell, where sizes differ"
    assert in_our_layout(smaller, None).shape == smaller.shape


def test_a_block_and_its_last_part_are_one_value(model) -> None:
    found = completed({"block_2": 1, "block_1_project": 2}, model.plan)
    assert found == {"block_1_project": 2, "block_1": 2, "block_2_add": 1, "block_2": 1}
    assert list(found) == ["block_1_project", "block_1", "block_2_add", "block_2"]
    both = {"block_2_add": 1, "block_2": 2}
    assert completed(dict(both), model.plan) == both, "what is there stays"

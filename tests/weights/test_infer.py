"""From shapes to a configuration: every width rule, every hundredth, and what shapes cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.network.architecture import backbone, classifier
from npmnv2.weights.checkpoint import initialize
from npmnv2.weights.infer import infer_config
from npmnv2.weights.native import read_h5

HUNDREDTHS = [number / 100 for number in range(5, 301)]
ROWS = [(16, 1), (24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)]


def divisible(value: float, minimum: int = 8) -> int:
    """Rounding as all implementations have it, written down once more."""
    rounded = max(minimum, int(value + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * value else rounded + 8


# First convolution, blocks, expansions: from each implementation's source.
WIDTHS = {
    "keras": (lambda a: divisible(32 * a), lambda c, a: divisible(int(c * a)), lambda c: 6 * c),
    "slim": (lambda a: divisible(32 * a), lambda c, a: divisible(c * a), lambda c: divisible(6 * c)),
    "transformers": (
        lambda a: divisible(round(32 * a)),
        lambda c, a: divisible(round(c * a)),
        lambda c: divisible(round(6 * c)),
    ),
}


def shapes_of(maker: str, alpha: float) -> dict[str, tuple[int, ...]]:
    """Shapes of the kernels of a maker's network, without npmnv2's own plan."""
    stem, width, expand = WIDTHS[maker]
    channels = stem(alpha)
    shapes = {"Conv1/kernel": (3, 3, 3, channels)}
    blocks = [(c, number) for c, repeats in ROWS for number in range(repeats)]
    for index, (c, _) in enumerate(blocks):
        name = f"block_{index}" if index else "expanded_conv"
        wide = expand(channels) if index else channels
        if index:
            shapes[f"{name}_expand/kernel"] = (1, 1, channels, wide)
        shapes[f"{name}_depthwise/kernel"] = (3, 3, wide, 1)
        channels = width(c, alpha)
        shapes[f"{name}_project/kernel"] = (1, 1, wide, channels)
    one_above = alpha <= 1 if maker == "keras" else alpha < 1
    head = 1280 if one_above else divisible(1280 * alpha)
    return {**shapes, "Conv_1/kernel": (1, 1, channels, head)}


def blank(shapes):
    """Arrays of these shapes that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def first_block_adds(config: MobileNetV2Config) -> bool:
    return next(node.layer.residual for node in backbone(config).nodes if node.name == "expanded_conv")


@pytest.mark.parametrize("maker", WIDTHS)
def test_every_hundredth_of_every_maker(maker: str) -> None:
    for alpha in HUNDREDTHS:
        shapes = shapes_of(maker, alpha)
        config = infer_config(blank(shapes), maker=maker)
        expected = backbone(config).parameter_shapes()
        assert {name: expected[name] for name in shapes} == shapes, alpha
        stem, first = shapes["Conv1/kernel"][-1], shapes["expanded_conv_project/kernel"][-1]
        assert first_block_adds(config) == (maker != "transformers" and stem == first), alpha


def test_where_the_widths_of_the_first_block_agree() -> None:
    for alpha in HUNDREDTHS:
        shapes = shapes_of("keras", alpha)
        agree = shapes["Conv1/kernel"][-1] == shapes["expanded_conv_project/kernel"][-1]
        assert agree == (alpha < 0.28), alpha


@pytest.mark.parametrize("maker", WIDTHS)
@pytest.mark.parametrize("alpha", [0.05, 0.14, 0.28, 0.35, 0.5, 0.56, 0.84, 1.0, 1.1, 1.12, 1.49, 2.31])
def test_a_rule_gives_its_makers_widths(maker: str, alpha: float) -> None:
    config = MobileNetV2Config(depth_multiplier=alpha, width_rule=maker)
    expected = backbone(config).parameter_shapes()
    shapes = shapes_of(maker, alpha)
    assert {name: expected[name] for name in shapes} == shapes


def test_published_widths_keep_the_default_rule() -> None:
    """Where all rules give one network, none has to be named."""
    for maker in WIDTHS:
        for alpha in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4):
            config = infer_config(blank(shapes_of(maker, alpha)), maker=maker)
            assert (config.depth_multiplier, config.width_rule) == (alpha, "transformers")


@pytest.mark.parametrize("alpha", [0.05, 0.14, 0.16, 0.25, 0.28])
@pytest.mark.parametrize("adds", [None, True, False])
def test_the_description_of_a_keras_model_decides(tmp_path: Path, alpha: float, adds: bool | None) -> None:
    """A file follows Keras's rule, unless the description of its layers shows that the first block adds nothing."""
    keras = MobileNetV2Config(depth_multiplier=alpha, width_rule="keras", num_labels=2)
    names = ["block_2_add"] + ["expanded_conv_add"] * bool(adds)
    layers = [{"class_name": "Add", "config": {"name": name}} for name in names]
    with h5py.File(tmp_path / "k.h5", "w") as file:
        for name, array in initialize(classifier(keras), keras, 0).items():
            file[f"{name.split('/')[0]}/{name}"] = array
        if adds is not None:
            file.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
    config = read_h5(tmp_path / "k.h5").config
    if adds is not False:
        assert backbone(config) == backbone(keras)
    elif alpha in (0.05, 0.16, 0.25):
        assert not first_block_adds(config)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"depth_multiplier": 1.4},
        {"depth_multiplier": 0.27},
        {"finegrained_output": False},
        {"depth_divisible_by": 1, "min_depth": 1},
        {"first_layer_is_expansion": False},
        {"num_channels": 1},
    ],
)
def test_the_configuration_follows_from_the_shapes(change: dict) -> None:
    config = MobileNetV2Config(**{"depth_multiplier": 0.5, "num_labels": 4, **change})
    found = infer_config(initialize(classifier(config), config, 0))
    assert classifier(found).parameter_shapes() == classifier(config).parameter_shapes()
    assert found.num_labels == 4


def test_the_likeliest_of_several_configurations_is_taken() -> None:
    """Without the last convolution, 0.5 with divisor 8 and with divisor 1 have layers in common; 8 is usual."""
    stem = blank({"Conv1/kernel": (3, 3, 3, 16)})
    found = infer_config(stem)
    # 0.5 is the first published multiplier whose stem has 16 channels; 0.35, 0.44 and others have it, too.
    assert (found.depth_multiplier, found.depth_divisible_by, found.finegrained_output) == (0.5, 8, True)


def test_no_first_layer() -> None:
    with pytest.raises(WeightsError, match="there is no layer Conv1"):
        infer_config(blank({"conv/kernel": (3, 3, 3, 16)}), "file")
    with pytest.raises(WeightsError, match=r"must have four dimensions, got \(3, 16\)"):
        infer_config(blank({"Conv1/kernel": (3, 16)}), "file")


def test_shapes_of_no_configuration_name_the_nearest() -> None:
    shapes = {**shapes_of("slim", 0.5), "block_7_project/kernel": (1, 1, 192, 33)}
    config = infer_config(blank(shapes), "file")
    assert (config.depth_multiplier, config.width_rule) == (0.5, "transformers")

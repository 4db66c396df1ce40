"""The table of seven rows and the networks that follow from it, against published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.plan import Plan

MULTIPLIERS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)

# (multiplier, size) → multiply-adds with 1001 classes, as published with the 22 checkpoints (there in millions).
MULTIPLY_ADDS = {
    (1.4, 224): 582_197_616, (1.3, 224): 509_376_224,
    (1.0, 224): 300_775_552, (1.0, 192): 221_317_888, (1.0, 160): 154_084_480, (1.0, 128): 99_075_328,
    (1.0, 96): 56_290_432,
    (0.75, 224): 209_071_072, (0.75, 192): 153_943_168, (0.75, 160): 107_296_480, (0.75, 128): 69_131_008,
    (0.75, 96): 39_446_752,
    (0.5, 224): 97_133_120, (0.5, 192): 71_703_040, (0.5, 160): 50_185_280, (0.5, 128): 32_579_840,
    (0.5, 96): 18_886_720,
    (0.35, 224): 59_287_088, (0.35, 192): 43_897_792, (0.35, 160): 30_876_080, (0.35, 128): 20_221_952,
    (0.35, 96): 11_935_408,
}  # fmt: skip

# multiplier → (kernels, γ+β, all with statistics and 1001 classes, Keras total, Keras without top, backbone)
PARAMETERS = {
    0.35: (382_048, 14_080, 1_692_489, 1_691_208, 410_208, 396_128),
    0.50: (669_136, 18_544, 1_988_505, 1_987_224, 706_224, 687_680),
    0.75: (1_328_784, 26_640, 2_664_345, 2_663_064, 1_382_064, 1_355_424),
    1.0: (2_189_760, 34_112, 3_540_265, 3_538_984, 2_257_984, 2_223_872),
    1.3: (3_677_536, 44_256, 5_432_713, 5_431_048, 3_766_048, 3_721_792),
    1.4: (4_267_840, 47_936, 6_158_505, 6_156_712, 4_363_712, 4_315_776),
}

CHANNELS = {
    0.35: [16, 8, 8, 8, 16, 16, 16, *[24] * 4, *[32] * 3, *[56] * 3, 112, 1280],
    0.50: [16, 8, 16, 16, 16, 16, 16, *[32] * 4, *[48] * 3, *[80] * 3, 160, 1280],
    0.75: [24, 16, 24, 24, 24, 24, 24, *[48] * 4, *[72] * 3, *[120] * 3, 240, 1280],
    1.0: [32, 16, 24, 24, 32, 32, 32, *[64] * 4, *[96] * 3, *[160] * 3, 320, 1280],
    1.3: [40, 24, 32, 32, 40, 40, 40, *[80] * 4, *[128] * 3, *[208] * 3, 416, 1664],
    1.4: [48, 24, 32, 32, 48, 48, 48, *[88] * 4, *[136] * 3, *[224] * 3, 448, 1792],
}


def _count(plan: Plan, *variables: str) -> int:
    shapes = plan.parameter_shapes()
    return sum(int(np.prod(s)) for name, s in shapes.items() if not variables or name.split("/")[1] in variables)


@pytest.mark.parametrize(("multiplier", "size"), MULTIPLY_ADDS)
def test_multiply_adds_of_the_published_checkpoints(multiplier: float, size: int) -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=multiplier, num_labels=1001))
    assert plan.multiply_adds(size) == MULTIPLY_ADDS[multiplier, size]


@pytest.mark.parametrize("rule", ["transformers", "slim", "keras"])
@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_parameters_and_channels(multiplier: float, rule: str) -> None:
    config = MobileNetV2Config(depth_multiplier=multiplier, num_labels=1001, width_rule=rule)
    kernels, trainable, total, keras, no_top, trainable_backbone = PARAMETERS[multiplier]
    body = backbone(config)
    assert _count(body, "kernel") == kernels
    assert _count(body, "gamma", "beta") == trainable
    assert _count(body) == no_top
    assert _count(body, "kernel", "gamma", "beta") == trainable_backbone
    assert _count(classifier(config)) == total == sum(row.parameters for row in classifier(config).table())
    assert _count(classifier(config.replace(num_labels=1000))) == keras
    shapes = body.shapes(224, 224)
    assert [shapes[node.name][-1] for node in body.nodes] == CHANNELS[multiplier]


@pytest.mark.parametrize(
    ("stride", "geometry"),
    [
        (32, {6: (2, 1), 7: (1, 1), 13: (2, 1), 14: (1, 1), 16: (1, 1)}),
        (16, {6: (2, 1), 12: (1, 1), 13: (1, 1), 14: (1, 2), 16: (1, 2)}),
        (8, {3: (2, 1), 6: (1, 1), 7: (1, 2), 12: (1, 2), 13: (1, 2), 14: (1, 4), 16: (1, 4)}),
        (4, {3: (1, 1), 4: (1, 2), 6: (1, 2), 7: (1, 4), 13: (1, 4), 14: (1, 8)}),
    ],
)
def test_output_stride_turns_strides_into_dilations(stride: int, geometry: dict[int, tuple[int, int]]) -> None:
    plan = backbone(MobileNetV2Config(output_stride=stride))
    blocks = {node.name: node.layer for node in plan.nodes}
    for number, expected in geometry.items():
        layer = blocks[f"block_{number}"]
        assert (layer.stride, layer.dilation) == expected, number
    assert plan.shapes(513, 257)["Conv_1"][:2] == (-(-513 // stride), -(-257 // stride))


@pytest.mark.parametrize("multiplier", [0.5, 0.75])
def test_residual_follows_the_effective_stride(multiplier: float) -> None:
    """Block 3 keeps its channels at these multipliers: a residual appears once its stride is gone."""
    for stride, expected in [(8, False), (4, True)]:
        plan = backbone(MobileNetV2Config(depth_multiplier=multiplier, output_stride=stride))
        assert next(n.layer.residual for n in plan.nodes if n.name == "block_3") is expected


def test_residual_blocks_at_multiplier_1() -> None:
    residual = [n.name for n in backbone(MobileNetV2Config()).nodes if getattr(n.layer, "residual", False)]
    assert residual == [f"block_{i}" for i in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15)]


def test_deeplab_with_half_width_rounds_to_single_channels() -> None:
    config = MobileNetV2Config(depth_multiplier=0.5, depth_divisible_by=1, min_depth=1)
    shapes = backbone(config).shapes(224, 224)
    assert [shapes[f"block_{i}"][-1] for i in (1, 3, 6, 10, 13, 16)] == [12, 16, 32, 48, 80, 160]


@pytest.mark.parametrize(("rule", "expected"), [("transformers", False), ("slim", True), ("keras", True)])
def test_residual_of_the_first_block_at_tiny_multipliers(rule: str, expected: bool) -> None:
    """Stem and first block have 8 channels each here; only transformers does not add."""
    first = backbone(MobileNetV2Config(depth_multiplier=0.1, width_rule=rule)).nodes[1]
    assert first.name == "expanded_conv"
    assert first.layer.residual is expected

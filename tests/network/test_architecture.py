"""The table, the configuration and the plan against published numbers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.config import make_divisible
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


def test_width_rules_differ_in_between() -> None:
    """1.1 · 16 is 17.6, which transformers rounds to 18 and then to 24; the others stay at 16."""
    widths = {rule: MobileNetV2Config(depth_multiplier=1.1, width_rule=rule).width(16) for rule in ("slim", "keras")}
    assert (MobileNetV2Config(depth_multiplier=1.1).width(16), widths) == (24, {"slim": 16, "keras": 16})


def test_deeplab_with_half_width_rounds_to_single_channels() -> None:
    config = MobileNetV2Config(depth_multiplier=0.5, depth_divisible_by=1, min_depth=1)
    shapes = backbone(config).shapes(224, 224)
    assert [shapes[f"block_{i}"][-1] for i in (1, 3, 6, 10, 13, 16)] == [12, 16, 32, 48, 80, 160]


@pytest.mark.parametrize(("value", "expected"), [(33, 32), (11.2, 16), (4, 8), (36, 40), (67, 64), (12, 16)])
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


def test_finegrained_output() -> None:
    for multiplier, width in [(0.35, 448), (0.5, 640), (0.75, 960)]:
        assert MobileNetV2Config(depth_multiplier=multiplier, finegrained_output=False).head_width == width


# --- configuration ----------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_transformers() -> None:
    expected = {
        "num_channels": 3, "image_size": 224, "depth_multiplier": 1.0, "depth_divisible_by": 8, "min_depth": 8,
        "expand_ratio": 6, "output_stride": 32, "first_layer_is_expansion": True, "finegrained_output": True,
        "hidden_act": "relu6", "tf_padding": True, "classifier_dropout_prob": 0.8, "initializer_range": 0.02,
        "layer_norm_eps": 0.001, "semantic_loss_ignore_index": 255, "num_labels": 2,
        "id2label": {0: "LABEL_0", 1: "LABEL_1"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    }  # fmt: skip
    config = MobileNetV2Config()
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"depth_multiplier": 0}, ValueError, r"depth_multiplier \(=0\) must be above 0"),
        ({"depth_multiplier": "1"}, TypeError, r"depth_multiplier \(='1'\) must be a number, got str"),
        ({"depth_multiplier": float("inf")}, ValueError, "depth_multiplier"),
        ({"depth_multiplier": float("nan")}, ValueError, "depth_multiplier"),
        ({"image_size": 31}, ValueError, r"image_size \(=31\) must be at least 32"),
        ({"output_stride": 12}, ValueError, r"output_stride \(=12\) must be one of 2, 4, 8, 16, 32"),
        ({"hidden_act": "relu7"}, ValueError, r"hidden_act \(='relu7'\) must be a function or one of .*relu6"),
        ({"tf_padding": 1}, TypeError, "tf_padding"),
        ({"min_depth": 0}, ValueError, "min_depth"),
        ({"min_depth": 1.5}, TypeError, "min_depth"),
        ({"pooling_window": 0}, ValueError, "pooling_window"),
        ({"classifier_dropout_prob": 1.5}, ValueError, "between 0 and 1"),
        ({"problem_type": "guess"}, ValueError, "problem_type"),
        ({"width_rule": "guess"}, ValueError, "width_rule"),
        ({"num_labels": 3, "id2label": {0: "a"}}, ValueError, r"each of num_labels \(=3\) classes"),
        ({"id2label": {0: "a", 2: "b"}}, ValueError, "id2label"),
        ({"first_layer_is_expansion": None}, TypeError, "first_layer_is_expansion"),
    ],
)
def test_impossible_values_are_refused_by_name(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MobileNetV2Config(**change)


def test_config_json_round_trip(tmp_path) -> None:
    config = MobileNetV2Config(
        depth_multiplier=0.35, num_labels=3, id2label={0: "a", 1: "b", 2: "b"}, pooling_window=7, hidden_act="silu"
    )
    config.save_pretrained(tmp_path / "new")
    assert MobileNetV2Config.from_pretrained(tmp_path / "new") == config
    assert config.label2id == {"a": 0, "b": 1}, "the first of two classes of one name keeps it"


def test_config_json_of_transformers_is_read_and_written() -> None:
    written = {
        "architectures": ["MobileNetV2ForImageClassification"], "classifier_dropout_prob": 0.8, "depth_divisible_by": 8,
        "depth_multiplier": 1.4, "expand_ratio": 6.0, "finegrained_output": True, "first_layer_is_expansion": True,
        "hidden_act": "relu6", "id2label": {"0": "background", "1": "tench"}, "image_size": 224,
        "initializer_range": 0.02, "label2id": {"background": 0, "tench": 1}, "layer_norm_eps": 0.001, "min_depth": 8,
        "model_type": "mobilenet_v2", "num_channels": 3, "output_stride": 32, "semantic_loss_ignore_index": 255,
        "tf_padding": True, "torch_dtype": "float32", "transformers_version": "4.25.0.dev0",
    }  # fmt: skip
    config = MobileNetV2Config.from_dict(written)
    assert config.num_labels == 2
    assert json.loads(config.to_json_string()) == written


def test_config_json_with_faults(tmp_path) -> None:
    with pytest.raises(ValueError, match="unknown keys, got depth_multiplyer"):
        MobileNetV2Config.from_dict({"depth_multiplyer": 1.0})
    with pytest.raises(WeightsError, match=r"model_type \(='vit'\)"):
        MobileNetV2Config.from_dict({"model_type": "vit"})
    for text, message in [("{", "not a JSON file"), ("[1]", "must hold a JSON object")]:
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=message):
            MobileNetV2Config.from_pretrained(tmp_path)


def test_replace_drops_labels_only_when_their_number_changes() -> None:
    config = MobileNetV2Config(id2label={0: "cat", 1: "dog"})
    assert config.replace(image_size=96).id2label == {0: "cat", 1: "dog"}
    assert config.replace(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.replace(id2label={0: "x"}).num_labels == 1


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan() -> Plan:
    return classifier(MobileNetV2Config(num_labels=1001))


def test_the_schedule_ends_with_what_was_asked_for(plan: Plan) -> None:
    schedule = plan.schedule(["layer_15/expansion_output", "block_3"])
    names = [node.name for node in schedule.nodes]
    assert names[-1] == "block_13_expand"
    assert "block_12" in names
    assert "block_13" not in names
    assert schedule.results == {"layer_15/expansion_output": "block_13_expand", "block_3": "block_3"}


def test_blocks_open_only_where_something_inside_is_wanted(plan: Plan) -> None:
    names = [node.name for node in plan.schedule(["predictions", "block_2_depthwise"]).nodes]
    assert [n for n in names if n.startswith("block_2_")] == [
        f"block_2_{p}" for p in ("expand", "depthwise", "project", "add")
    ]
    assert "block_2" not in names
    assert names[-1] == "predictions"
    assert "block_1_expand" not in names


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("layer_1", "Conv1"), ("layer_2", "expanded_conv"), ("layer_4/depthwise_output", "block_2_depthwise"),
        ("layer_18", "block_16"), ("layer_19", "Conv_1"), ("out_relu", "Conv_1"),
        ("global_pool", "global_average_pooling2d"),
        ("block_1_expand_relu", "block_1_expand"), ("block_16_project_BN", "block_16_project"),
        ("Logits", "predictions"), ("layer_15/projection_output", "block_13_project"), ("layer_7/output", "block_5"),
    ],
)  # fmt: skip
def test_names_of_keras_and_slim(plan: Plan, alias: str, name: str) -> None:
    assert plan.resolve(alias) == name


def test_last_part_of_a_block_is_the_block(plan: Plan) -> None:
    assert plan.schedule(["block_2_add"]).results == {"block_2_add": "block_2"}
    assert plan.schedule(["block_1_project"]).results == {"block_1_project": "block_1"}
    assert plan.schedule(["block_2_project", "block_2"]).results["block_2"] == "block_2_add"


def test_unknown_endpoint_names_the_nearest(plan: Plan) -> None:
    with pytest.raises(
        ValueError, match=r"endpoint \(='block_13_expnd'\) must be one of .* did you mean block_13_expand"
    ):
        plan.schedule(["block_13_expnd"])


def test_every_value_is_known_by_its_last_use(plan: Plan) -> None:
    """Within an open block the input is read twice: by the expansion and, three nodes later, by the addition."""
    schedule = plan.schedule(["predictions", "block_2_depthwise"])
    position = {node.name: at for at, node in enumerate(schedule.nodes)}
    uses = schedule.last_uses()
    assert uses["image"] == 0
    assert uses["block_1"] == position["block_2_add"] == position["block_2_expand"] + 3
    assert uses["block_2_expand"] == position["block_2_depthwise"]
    assert uses["block_2_project"] == position["block_2_add"]
    assert uses["block_2_add"] == position["block_3"]
    assert "predictions" not in uses

"""The configuration: what it refuses, its rules of widths, and its file."""

from __future__ import annotations

import json

import pytest

from npmnv2 import MobileNetV2Config, WeightsError
from npmnv2.labels import labels_for
from npmnv2.network.config import make_divisible

# --- widths -----------------------------------------------------------------------------------------------------------


def test_width_rules_differ_in_between() -> None:
    """1.1 · 16 is 17.6, which transformers rounds to 18 and then to 24; the others stay at 16."""
    widths = {rule: MobileNetV2Config(depth_multiplier=1.1, width_rule=rule).width(16) for rule in ("slim", "keras")}
    assert (MobileNetV2Config(depth_multiplier=1.1).width(16), widths) == (24, {"slim": 16, "keras": 16})


@pytest.mark.parametrize(("value", "expected"), [(33, 32), (11.2, 16), (4, 8), (36, 40), (67, 64), (12, 16)])
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


def test_finegrained_output() -> None:
    for multiplier, width in [(0.35, 448), (0.5, 640), (0.75, 960)]:
        assert MobileNetV2Config(depth_multiplier=multiplier, finegrained_output=False).head_width == width


@pytest.mark.parametrize(("min_depth", "expected"), [(8, 8), (16, 16), (24, 24)])
def test_no_block_is_narrower_than_min_depth(min_depth: int, expected: int) -> None:
    config = MobileNetV2Config(depth_multiplier=0.1, min_depth=min_depth)
    assert (config.width(16), config.stem_width) == (expected, expected)
    assert config.width(320) == 32


# --- values -----------------------------------------------------------------------------------------------------------


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


def test_repr_tells_what_differs_from_the_defaults() -> None:
    assert repr(MobileNetV2Config()) == "MobileNetV2Config(num_labels=2)"
    config = MobileNetV2Config(depth_multiplier=0.35, id2label=dict(enumerate(labels_for(1001, "classification"))))
    assert repr(config) == "MobileNetV2Config(depth_multiplier=0.35, num_labels=1001)"


# --- files ------------------------------------------------------------------------------------------------------------


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


def test_a_file_may_name_sizes_by_axis() -> None:
    assert MobileNetV2Config.from_dict({"image_size": [192, 224]}).image_size == 224


def test_labels_of_a_file_decide_their_number() -> None:
    config = MobileNetV2Config.from_dict({"num_labels": 5, "id2label": {"0": "a", "1": "b", "2": "c"}})
    assert config.num_labels == 3


def test_a_file_cannot_ask_for_any_number_of_labels() -> None:
    with pytest.raises(ValueError, match=r"num_labels \(=1000001\) must be at most 1000000 in a file"):
        MobileNetV2Config.from_dict({"num_labels": 1_000_001})

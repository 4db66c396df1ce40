"""The settings of a detector: what is refused, and that JSON holds them all."""

from __future__ import annotations

import json

import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.network.detection import SSDLITE, AnchorOptions, ExplicitAnchors, NonMaxSuppression, SSDConfig

OTHER = SSDConfig(
    extras=((32, 64),),
    extra_depthwise=False,
    predictor_kernel=1,
    predictor_depthwise=False,
    background=False,
    anchors=ExplicitAnchors(((0.5, 0.25, 0.1, 0.3333),), (3, 6, 2)),
    box_scales=(1.0, 2.0, 3.0, 4.0),
    score_converter="softmax",
    nms=NonMaxSuppression(0.3, 0.5, "agnostic", 7, 9, "first", "tflite", 2),
)


@pytest.mark.parametrize(
    "ssd", [SSDLITE, OTHER, SSDConfig(anchors=AnchorOptions(scales=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)))]
)
def test_settings_survive_a_file(ssd, tmp_path):
    config = MobileNetV2Config(num_labels=3, ssd=ssd)
    config.save_pretrained(tmp_path)
    assert MobileNetV2Config.from_pretrained(tmp_path) == config


def test_the_default_is_not_written():
    assert "ssd" not in MobileNetV2Config().to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extras": ((0, 8),)}, r"filters of extras \(=0\) must be at least 1"),
        ({"extras": ((8, 8),) * 15}, r"number of feature maps \(=17\) must be at least 2 and at most 16"),
        ({"predictor_kernel": 5}, r"predictor_kernel \(=5\) must be one of 1, 3"),
        ({"box_scales": (1, 2, 3)}, "must be four numbers, for y, x, height and width"),
        ({"box_scales": (1, 2, 3, 0)}, r"box_scales \(=0\) must be finite, above 0"),
        ({"score_converter": "tanh"}, r"score_converter \(='tanh'\) must be one of 'sigmoid', 'softmax', 'identity'"),
        ({"anchors": {"boxes": [[0, 0, 1, 1]], "counts": [3]}}, "anchors must be listed for 6 feature maps, got 1"),
        ({"anchors": {"boxes": [[0, 0, 1, float("inf")]], "counts": [3] * 6}}, r"anchors \(=inf\) must be finite"),
        ({"anchors": {"boxes": [], "counts": [0] * 6}}, r"anchors per place \(=0\) must be at least 1"),
        ({"anchors": {"aspect_ratios": [], "interpolated_scale_aspect_ratio": 0}}, "must name at least one ratio"),
        ({"anchors": {"min_scale": -1}}, r"anchors \(=-1\) must be finite, above 0"),
        ({"anchors": {"scales": [0.1, 0.2]}}, r"scales must be as many as feature maps \(6\), got 2"),
        ({"anchors": {"sizes": 1}}, "must be a dictionary of min_scale, max_scale"),
        ({"nms": {"iou_threshold": 1.5}}, r"iou_threshold \(=1.5\) must be finite, above -inf and at most 1"),
        ({"nms": {"max_detections": 0}}, r"max_detections \(=0\) must be at least 1"),
        ({"nms": {"suppression": "all"}}, r"suppression \(='all'\) must be one of 'per_class', 'agnostic'"),
        ({"nms": 3}, r"NonMaxSuppression \(=3\) must be a dictionary"),
        ({"sizes": 3}, r"SSDConfig \(=\{'sizes': 3\}\) must be a dictionary of extras"),
    ],
)
def test_impossible_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        SSDConfig.from_dict(json.loads(json.dumps(fields)))


@pytest.mark.parametrize(
    "fields",
    [
        {"extras": 3},
        {"extras": [3]},
        {"extras": [[3.5, 2]]},
        {"box_scales": "1234"},
        {"box_scales": ["1", 2, 3, 4]},
        {"anchors": {"boxes": 3, "counts": [3] * 6}},
        {"anchors": {"boxes": [[0, 0, 1]], "counts": [3] * 6}},
        {"anchors": {"boxes": [[0, 0, 1, "wide"]], "counts": [3] * 6}},
        {"anchors": {"boxes": [], "counts": 3}},
        {"anchors": {"scales": 3}},
        {"nms": {"max_per_class": 1.5}},
    ],
)
def test_wrong_types(fields):
    with pytest.raises(TypeError, match="must be"):
        SSDConfig.from_dict(fields)


def test_a_config_takes_settings_only():
    with pytest.raises(TypeError, match="ssd must be an SSDConfig, got dict"):
        MobileNetV2Config(ssd={})


@pytest.mark.parametrize(
    ("anchors", "counts"),
    [
        (AnchorOptions(), (3, 6, 6, 6, 6, 6)),
        (AnchorOptions(reduce_boxes_in_lowest_layer=False), (6,) * 6),
        (AnchorOptions(interpolated_scale_aspect_ratio=0), (3, 5, 5, 5, 5, 5)),
        (AnchorOptions(aspect_ratios=(1.0,), reduce_boxes_in_lowest_layer=False), (2,) * 6),
    ],
)
def test_anchors_per_place(anchors, counts):
    assert SSDConfig(anchors=anchors).anchors_per_place == counts

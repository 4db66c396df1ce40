"""What graphs of the Object Detection API say beside their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detector_graphs import LOOP, anchors, coder, listed, number, preparation, resize, scores, suppression
from weight_files import constant, frozen_graph, node, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.kernels import ssd_anchors
from npmnv2.network.detection import SSDLITE, AnchorOptions, ExplicitAnchors, NonMaxSuppression, SSDConfig
from npmnv2.network.ssd import map_sizes
from npmnv2.weights_tools import read


def read_with(folder: Path, operations: list[bytes], checkpoint=None):
    checkpoint = checkpoint or random_checkpoint("detection")
    (folder / "graph.pb").write_bytes(frozen_graph(checkpoint) + b"".join(operations))
    return read(folder / "graph.pb")


def test_a_graph_without_settings(tmp_path: Path) -> None:
    found = read_with(tmp_path, [])
    assert (found.task, found.config.ssd) == ("detection", SSDLITE)
    assert found.preprocessing == {"preset": "ssd", "size": 64}


@pytest.mark.parametrize("size", [(96, 96), (64, 128)])
def test_image_size(tmp_path: Path, size) -> None:
    found = read_with(tmp_path, [*resize(*size), *preparation()])
    assert found.config.image_size == max(size)
    assert found.preprocessing["size"] == (size[0] if size[0] == size[1] else list(size))


@pytest.mark.parametrize(("factor", "offset", "name"), [(1 / 255, 1.0, "mul/x"), (2 / 255, 0.0, "sub/y")])
def test_other_preparation(tmp_path: Path, factor, offset, name) -> None:
    with pytest.raises(WeightsError, match=f"in a way that is not supported: Preprocessor/{name} is"):
        read_with(tmp_path, preparation(factor, offset))


@pytest.mark.parametrize("kind", ["Sigmoid", "Softmax", "Identity"])
def test_score_converter(tmp_path: Path, kind) -> None:
    assert read_with(tmp_path, scores(kind)).config.ssd.score_converter == kind.lower()


def test_no_background(tmp_path: Path) -> None:
    assert not read_with(tmp_path, scores(begin=(0, 0, 0))).config.ssd.background


def test_scaled_logits(tmp_path: Path) -> None:
    scaled = [number("Postprocessor/scale_logits/y", 2.0)]
    with pytest.raises(WeightsError, match="divides its logits by 2, which is not supported"):
        read_with(tmp_path, scaled)
    assert read_with(tmp_path, [number("Postprocessor/scale_logits/y", 1.0)]).task == "detection"


@pytest.mark.parametrize("kind", ["RealDiv", "Mul"])
def test_box_scales(tmp_path: Path, kind) -> None:
    found = read_with(tmp_path, coder((8.0, 7.0, 4.0, 3.0), kind))
    assert found.config.ssd.box_scales == (8, 7, 4, 3)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("clip", ["first", "last", "never"])
def test_suppression(tmp_path: Path, version, clip) -> None:
    operations = suppression(version, 2, iou=0.45, score=0.25, per_class=30, total=50, clip=clip)
    found = read_with(tmp_path, operations).config.ssd.nms
    assert found == NonMaxSuppression(0.25, 0.45, "per_class", 30, 50, clip)


def test_suppression_without_classes(tmp_path: Path) -> None:
    assert read_with(tmp_path, suppression(3, 1)).config.ssd.nms.suppression == "agnostic"
    one = random_checkpoint("detection", num_labels=2)
    assert read_with(tmp_path, suppression(3, 1), one).config.ssd.nms.suppression == "per_class"


def test_impossible_suppression(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="post-processing has impossible settings: iou_threshold"):
        read_with(tmp_path, suppression(3, 2, iou=1.5))
    with pytest.raises(WeightsError, match=r"impossible settings: max_per_class \(=-1\)"):
        read_with(tmp_path, suppression(3, 2, per_class=(1 << 64) - 1))


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_limits_that_are_no_numbers_are_passed_over(tmp_path: Path, limit) -> None:
    found = read_with(tmp_path, suppression(3, 2, per_class=limit, total=limit)).config.ssd.nms
    assert (found.max_per_class, found.max_detections) == (NonMaxSuppression().max_per_class, 100)


def test_anchors_without_a_number(tmp_path: Path) -> None:
    none, root = np.zeros(0, np.float32), "MultipleGridAnchorGenerator/Sqrt"
    operations = []
    for suffix in ("", "_1"):
        operations += [constant(f"{root}{suffix}/x", none), node(f"{root}{suffix}", "Sqrt", [f"{root}{suffix}/x"])]
        name = f"MultipleGridAnchorGenerator/truediv{suffix}"
        operations += [constant(f"{name}/x", none), node(name, "RealDiv", [f"{name}/x", f"{root}{suffix}"])]
    assert read_with(tmp_path, operations).config.ssd.anchors == AnchorOptions()


OPTIONS = {
    "published": AnchorOptions(),
    "range": AnchorOptions(0.1, 0.9),
    "listed": AnchorOptions(scales=(0.1, 0.15, 0.3, 0.5, 0.7, 0.8)),
    "not reduced": AnchorOptions(reduce_boxes_in_lowest_layer=False),
    "not interpolated": AnchorOptions(aspect_ratios=(1.0, 2.0, 0.5, 3.0), interpolated_scale_aspect_ratio=0.0),
    "other ratios": AnchorOptions(aspect_ratios=(1.0, 1.5), interpolated_scale_aspect_ratio=1.25),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_anchors_from_constants(tmp_path: Path, name) -> None:
    checkpoint = random_checkpoint("detection", ssd=SSDConfig(anchors=OPTIONS[name]))
    found = read_with(tmp_path, anchors(checkpoint.config), checkpoint)
    assert found.config.ssd.anchors == OPTIONS[name]


def test_listed_anchors(tmp_path: Path) -> None:
    """Optimized graphs list them. Those of the formula are known again, others are kept."""
    config = random_checkpoint("detection").config
    boxes = ssd_anchors(map_sizes(config, 64, 64))
    assert read_with(tmp_path, listed(boxes)).config.ssd.anchors == AnchorOptions()
    boxes[7] += 0.01
    found = read_with(tmp_path, listed(boxes)).config.ssd.anchors
    assert isinstance(found, ExplicitAnchors)
    assert found.counts == (3, 6, 6, 6, 6, 6)
    np.testing.assert_allclose(np.array(found.boxes), boxes, atol=1e-6)


def test_listed_anchors_that_do_not_fit_the_maps(tmp_path: Path) -> None:
    boxes = ssd_anchors(map_sizes(random_checkpoint("detection").config, 96, 96))
    with pytest.raises(WeightsError, match=r"lists \d+ anchors; feature maps of 4×4, 2×2, .* need \d+"):
        read_with(tmp_path, listed(boxes))


def test_listed_anchors_of_an_input_that_is_not_square(tmp_path: Path) -> None:
    config = random_checkpoint("detection").config
    boxes = ssd_anchors(map_sizes(config, 64, 128), input_size=(64, 128))
    found = read_with(tmp_path, [*resize(64, 128), *listed(boxes)])
    assert (found.config.image_size, found.config.ssd.anchors) == (128, AnchorOptions())


def test_constants_for_other_numbers_of_anchors(tmp_path: Path) -> None:
    other = random_checkpoint("detection", ssd=SSDConfig(anchors=OPTIONS["not reduced"]))
    with pytest.raises(WeightsError, match=r"must be as many in each place as the predictors have room for, \(3, 6"):
        read_with(tmp_path, anchors(other.config))


def test_numbers_of_anchors_that_follow_no_rule(tmp_path: Path) -> None:
    counts = (2, 7, 1, 1, 1, 1)
    config = random_checkpoint("detection").config
    boxes = np.concatenate(
        [np.full((height * width * count, 4), 0.1) for (height, width), count in zip(map_sizes(config, 64, 64), counts)]
    )
    explicit = ExplicitAnchors(tuple(map(tuple, boxes.tolist())), counts)
    checkpoint = random_checkpoint("detection", ssd=SSDConfig(anchors=explicit))
    with pytest.raises(WeightsError, match="follow no known rule"):
        read_with(tmp_path, [], checkpoint)
    assert read_with(tmp_path, listed(boxes), checkpoint).config.ssd.anchors.counts == counts


def test_a_circle_among_the_operations(tmp_path: Path) -> None:
    circle = [node(f"{LOOP}/a", "Identity", [f"{LOOP}/b"]), node(f"{LOOP}/b", "Identity", [f"{LOOP}/a"])]
    circle.append(node(f"{LOOP}/nms", "NonMaxSuppressionV3", [f"{LOOP}/a", "s", "m", "i", "t"]))
    circle.append(node(f"{LOOP}/ClipToWindow/x", "Identity", [f"{LOOP}/nms"]))
    assert read_with(tmp_path, circle).config.ssd.nms.clipping == "last"

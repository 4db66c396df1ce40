"""Anchors: the formula against plain loops, and against the anchors inside real graphs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import naive
import numpy as np
import pytest

from npmnv2.kernels import AnchorRules, anchor_shapes, decode_boxes, grid_anchors, ssd_anchors

MAPS_300 = [(19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]


@pytest.mark.parametrize(
    "sizes", [MAPS_300, [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)], [(4, 7), (2, 4), (1, 2)]]
)
def test_anchors_agree_with_plain_loops(sizes: list[tuple[int, int]]) -> None:
    anchors = ssd_anchors(sizes)
    assert anchors.dtype == np.float32
    np.testing.assert_allclose(anchors, naive.ssd_anchors(sizes), rtol=0, atol=1.2e-7)


def test_how_many_anchors_there_are() -> None:
    assert len(ssd_anchors(MAPS_300)) == 1917
    assert len(ssd_anchors([(20, 20), *MAPS_300[1:]])) == 2034


def test_the_first_anchor() -> None:
    y, x, height, width = ssd_anchors(MAPS_300)[0]
    corners = [y - height / 2, x - width / 2, y + height / 2, x + width / 2]
    np.testing.assert_allclose(corners, [-0.02368421, -0.02368421, 0.07631579, 0.07631579], atol=1e-8)


def test_rules_choose_scales_and_ratios() -> None:
    assert [len(shapes) for shapes in anchor_shapes(6)] == [3, 6, 6, 6, 6, 6]
    assert [len(shapes) for shapes in anchor_shapes(2, AnchorRules(reduce_lowest=False))] == [6, 6]
    assert anchor_shapes(1, AnchorRules(reduce_lowest=False, interpolated_ratio=0, aspect_ratios=(2.0,))) == [
        ((0.2, 2.0),)
    ]
    given = anchor_shapes(2, AnchorRules(scales=(0.3, 0.6), reduce_lowest=False, aspect_ratios=(1.0,)))
    assert given[0] == ((0.3, 1.0), ((0.3 * 0.6) ** 0.5, 1.0))
    assert given[1] == ((0.6, 1.0), (0.6**0.5, 1.0))


def test_scales_must_be_as_many_as_maps() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ssd_anchors([(3, 3), (2, 2)], AnchorRules(scales=(0.5,)))


def test_anchors_are_square_on_an_input_that_is_not() -> None:
    anchors = grid_anchors((1, 2), [(0.5, 1.0)], (100, 200))
    np.testing.assert_allclose(anchors, [[0.5, 0.25, 0.5, 0.25], [0.5, 0.75, 0.5, 0.25]])


def test_anchors_are_those_of_a_real_graph(shared_data: Path) -> None:
    """The COCO detector for TensorFlow.js holds its anchors as corners, at the end of the first tensors."""
    folder = shared_data / "weights" / "detection" / "coco_ssdlite_mobilenet_v2_tfjs"
    manifest = json.loads((folder / "model.json").read_text())["weightsManifest"]
    content = b"".join((folder / path).read_bytes() for group in manifest for path in group["paths"])
    start = 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        count = math.prod(weight["shape"])
        if weight["shape"] == [1, 1917, 4]:
            corners = np.frombuffer(content, np.float32, count, start).reshape(-1, 4)
        start += 4 * count
    ours = decode_boxes(np.zeros((1917, 4), np.float32), ssd_anchors(MAPS_300))
    np.testing.assert_allclose(ours, corners, rtol=0, atol=1.2e-7)


def test_anchors_are_those_of_real_quantized_files(shared_data: Path) -> None:
    """A COCO detector for 300 pixels, and a localizer for 192: both store anchors in steps of 1/155."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    maps = {1917: MAPS_300, 738: [(12, 12), (6, 6), (3, 3), (2, 2), (1, 1), (1, 1)]}
    files = sorted((shared_data / "weights" / "detection").glob("*.tflite"))
    assert len(files) == 2
    for file in files:
        made = interpreter.Interpreter(model_path=str(file))
        made.allocate_tensors()
        (found,) = (d for d in made.get_tensor_details() if "anchors" in d["name"] and len(d["shape"]) == 2)
        scale, zero_point = found["quantization"]
        real = made.get_tensor(found["index"]).astype(np.int64) - zero_point
        steps = ssd_anchors(maps[len(real)]) / np.float32(scale)
        assert np.abs(steps - real).max() < 0.51, "rounded to the nearest step"

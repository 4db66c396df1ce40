from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npmnv2 import ArgumentError, Detections, ImageError, Prediction, Segmentation
from npmnv2.scale.table import parquet, pyarrow, row, schema


def stored(rows: list[dict[str, Any]], columns: Any) -> list[dict[str, Any]]:
    return pyarrow().parquet.read_table(io.BytesIO(parquet(rows, columns))).to_pylist()


BAD = row("bad.jpg", ImageError("bad.jpg is damaged: <BytesIO at 0x7f12ab>"))


def test_a_prediction_is_what_its_json_says() -> None:
    result = Prediction.from_logits(np.float32([1, 3, 2]), ["cat", "dog", "owl"], 2, wnids=["n1", None, "n2"])
    good, bad = stored([row("a.jpg", result), BAD], schema("classification"))
    assert good == {"source": "a.jpg", "candidates": result.to_dict()["candidates"], "error": None}
    # Without the place in memory.
    error = "ImageError: bad.jpg is damaged: <BytesIO>"
    assert bad == {"source": "bad.jpg", "candidates": None, "error": error}


def test_detections_are_what_their_json_says() -> None:
    boxes = np.float32([[1, 2, 3.25, 4], [0, 0, 1, 1]])
    result = Detections(boxes, np.array([1, 17]), ("person", "cat"), np.float32([0.9, 0.3]), (10, 20))
    empty = Detections(boxes[:0], np.array([], int), (), np.float32([]), (10, 20))
    good, none, bad = stored([row("a", result), row("b", empty), BAD], schema("detection"))
    assert good["detections"] == result.to_dict()["detections"]
    assert (none["detections"], none["error"]) == ([], None)
    assert bad["detections"] is None


def test_segmentations_are_what_their_json_says_with_masks_if_wanted() -> None:
    label_map = np.uint8([[0, 1], [1, 1]])
    result = Segmentation(label_map, ("background", "cat"), np.zeros((2, 2, 3), np.uint8))
    good, bad = stored([row("a", result, masks=True), BAD], schema("segmentation", masks=True))
    assert {**result.to_dict(), "source": "a", "error": None} == {k: v for k, v in good.items() if k != "mask"}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(good["mask"]))), label_map)
    assert bad["mask"] is None
    assert "mask" not in schema("segmentation").names


def test_features_are_vectors_of_one_length() -> None:
    vector = np.float32([0.1, 2])
    good, bad = stored([row("a", vector), BAD], schema("features"))
    np.testing.assert_array_equal(np.float32(good["features"]), vector)
    assert bad["features"] is None
    # Vectors of a fixed size beside a null are more than PyArrow 19 can read.
    assert schema("features").field("features").type == pyarrow().list_(pyarrow().float32())


def test_a_name_that_is_not_utf8_is_written_with_backslashes() -> None:
    (found,) = stored([row("a\udcff.jpg", ImageError("a\udcff.jpg"))], schema("classification"))
    assert found["source"] == r"a\udcff.jpg"


def test_equal_rows_give_equal_bytes() -> None:
    rows = [row(f"{number}.jpg", np.arange(3, dtype=np.float32)) for number in range(50)]
    assert parquet(rows, schema("features")) == parquet(iter(rows), schema("features"))


def test_an_unknown_task_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="task"):
        schema("depth")

"""SavedModels that TensorFlow writes, read without it."""

from __future__ import annotations

from pathlib import Path

import pytest
from weight_files import assert_same_weights, field, frozen_graph, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.weights_tools import detect_format, read


def test_saved_model_of_tensorflow_1(written: Path, checkpoint) -> None:
    assert detect_format(written / "saved") == detect_format(written / "saved" / "saved_model.pb") == "saved-model"
    assert_same_weights(read(written / "saved").weights, checkpoint.weights)
    assert_same_weights(read(written / "saved" / "saved_model.pb").weights, checkpoint.weights)


def test_a_frozen_graph_inside(tmp_path: Path) -> None:
    """The Object Detection API writes no variables."""
    checkpoint = random_checkpoint("detection")
    graph = field(2, frozen_graph(checkpoint))
    (tmp_path / "saved_model.pb").write_bytes(field(1, 1) + field(2, graph))
    (tmp_path / "variables").mkdir()
    found = read(tmp_path)
    assert (found.task, found.source["format"]) == ("detection", "saved-model")
    assert_same_weights(found.weights, checkpoint.weights)


def test_neither_variables_nor_a_graph(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(field(1, 1))
    with pytest.raises(WeightsError, match=r"saved_model\.pb: has neither variables beside it nor a graph in it"):
        read(tmp_path)

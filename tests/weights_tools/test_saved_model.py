"""SavedModels that TensorFlow writes, read without it."""

from __future__ import annotations

from pathlib import Path

from weight_files import (
    assert_same_weights,
)

from npmnv2.weights_tools import detect_format, read


def test_saved_model_of_tensorflow_1(written: Path, checkpoint) -> None:
    assert detect_format(written / "saved") == detect_format(written / "saved" / "saved_model.pb") == "saved-model"
    assert_same_weights(read(written / "saved").weights, checkpoint.weights)
    assert_same_weights(read(written / "saved" / "saved_model.pb").weights, checkpoint.weights)

"""Values with names, and a summary of their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from quantized_networks import quantized_checkpoint
from weight_files import random_checkpoint

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.results.trace import Trace, ValueSummary

X = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


def test_summary_of_known_numbers() -> None:
    value = np.array([[0, 6, 3, 0], [6, 6, 1, 2]], np.float32)
    trace = Trace({"a": value, "b": -value}, {"a": 6.0})
    assert trace.summary()[0] == ValueSummary("a", (2, 4), 0.0, 3.0, 6.0, 0.25, 0.375)
    assert trace.summary()[1] == ValueSummary("b", (2, 4), -6.0, -3.0, 0.0, 0.25, None)
    lines = str(trace.summary()).splitlines()
    assert lines[0].split() == ["value", "shape", "min", "mean", "max", "zeros", "at", "top"]
    assert lines[1].split() == ["a", "2×4", "0.0000", "3.0000", "6.0000", "25.0%", "37.5%"]
    assert lines[2].split()[-1] == "–"


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
def test_saturation_is_counted_where_there_is_a_limit(dtype) -> None:
    checkpoint = random_checkpoint(image_size=64) if dtype == "float32" else quantized_checkpoint(dtype)
    model = MobileNetV2ForImageClassification.from_checkpoint(checkpoint, backend="numpy")
    trace = model.trace(
        4 * X if dtype == "float32" else X, ["Conv1", "layer_3/expansion_output", "block_3_project", "block_3"]
    )
    first, _, project, block = trace.summary()
    assert list(trace) == ["Conv1", "layer_3/expansion_output", "block_3_project", "block_3"]
    assert (project.saturated, block.saturated) == (None, None)
    top = trace["Conv1"].max()
    assert first.saturated == np.mean(trace["Conv1"] >= min(top, 6)) > 0 or top < trace.tops["Conv1"]
    assert first.zeros == np.mean(trace["Conv1"] == 0) > 0


def test_a_trace_of_all_endpoints_is_in_order() -> None:
    model = MobileNetV2ForImageClassification.from_checkpoint(random_checkpoint(image_size=64), backend="numpy")
    trace = model.trace(X)
    assert tuple(trace) == model.plan.endpoints
    assert isinstance(trace, dict)
    assert {"Conv1", "block_3_expand", "Conv_1"} <= set(trace.tops)
    assert "block_3_project" not in trace.tops

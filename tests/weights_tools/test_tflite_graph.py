"""Graphs in the making, read by LiteRT and by our own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tflite import Model
from npmnv2.weights_tools.tflite_graph import Graph, explicit_padding, integer, integers, stored_kernel

from npmnv2.network.layers import Conv, Dense, Depthwise


def doubled(any_batch: bool) -> bytes:
    """A graph that adds its input to itself."""
    graph = Graph()
    first = graph.tensor("input", (1, 3), "float32", any_batch=any_batch)
    last = graph.tensor("output", (1, 3), "float32", any_batch=any_batch)
    graph.operator("ADD", [first, first], last, {0: integer(0)})
    return graph.file([first], [last], {"note": b"abc"})


def test_litert_runs_it_with_any_batch() -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_content=doubled(True))
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 3]
    interpreter.resize_tensor_input(0, (5, 3))
    interpreter.allocate_tensors()
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(1), 2 * x)


def test_the_reader_finds_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(doubled(False))
    model = Model.open(tmp_path / "a.tflite")
    assert [operator.kind for operator in model.operators] == ["ADD"]
    assert (model.inputs, model.outputs) == ((0,), (1,))
    assert (model.name(0), model.shape(1), model.dtype(1)) == ("input", (1, 3), "float32")


def test_constants_are_shared_by_number() -> None:
    graph = Graph()
    assert (graph.constant("a", [1, 2]), graph.constant("b", 3)) == (0, 1)
    assert len(graph.buffers) == 3
    assert integers([1, 2]).dtype == np.int32


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (Conv(kernel=3, stride=2), (8, 8), None),
        (Depthwise(stride=2, tf_padding=False), (7, 7), None),
        (Depthwise(stride=2, tf_padding=False), (8, 7), ([(0, 0), (1, 1), (1, 1), (0, 0)], (10, 9, 4))),
        (Depthwise(dilation=2, tf_padding=False), (8, 8), None),
    ],
    ids=str,
)
def test_explicit_padding_only_where_same_differs(layer, size, expected) -> None:
    assert explicit_padding(layer, (*size, 4)) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "stored"),
    [(Conv(), (3, 2, 4, 5), (5, 3, 2, 4)), (Depthwise(), (3, 2, 4, 1), (1, 3, 2, 4)), (Dense(5), (4, 5), (5, 1, 1, 4))],
)
def test_kernels_are_stored_by_output(layer, shape, stored) -> None:
    kernel = np.arange(np.prod(shape)).reshape(shape)
    found = stored_kernel(layer, kernel)
    assert found.shape == stored
    assert sorted(found.ravel()) == list(range(kernel.size))
    assert found[0, 0, -1, 0] == kernel[(0, -1, 0, 0) if kernel.ndim == 4 else (0, 0)]

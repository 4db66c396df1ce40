"""What graph files compute, and files with their inner values as outputs: small graphs, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graph_networks import checkpoint_of, images_for, values_of
from npmnv2.weights_tools.protobuf_writer import message
from npmnv2.weights_tools.wiring import Wire
from quantized_networks import quantized_checkpoint

from npmnv2 import WeightsError
from npmnv2.weights_tools import onnx_bytes, tflite_bytes, wiring


def onnx_file(path: Path, nodes, inputs=("image",), constants=()) -> Path:
    """An ONNX file of nodes (operation, inputs, output, groups)."""
    fields = [
        {1: list(sources), 2: [output], 4: operation, 5: [{1: "group", 3: groups}] if groups else []}
        for operation, sources, output, groups in nodes
    ]
    graph = {1: fields, 5: [{8: name} for name in constants], 11: [{1: name} for name in inputs]}
    path.write_bytes(message({7: graph}))
    return path


def test_onnx_by_hand(tmp_path: Path) -> None:
    file = onnx_file(
        tmp_path / "a.onnx",
        [
            ("Conv", ("image", "kernel"), "c", 1),
            ("Identity", ("kernel",), "copy", 0),  # of a constant: not computed
            ("Conv", ("c", "kernel"), "d", 8),
            ("Add", ("d", "bias"), "biased", 0),
            ("Add", ("biased", "c"), "sum", 0),
            ("Clip", ("sum",), "clipped", 0),
            ("Transpose", ("clipped",), "turned", 0),
            ("Strange", ("turned", "copy"), "last", 0),
        ],
        inputs=("kernel", "image"),  # older files list constants among the inputs
        constants=("kernel", "bias"),
    )
    assert wiring.onnx_wiring(file) == wiring.Wiring(
        "image",
        (
            Wire("c", wiring.CONV, ("image",), "c"),
            Wire("d", wiring.DEPTHWISE, ("c",), "d"),
            Wire("biased", wiring.FOLLOW, ("d",), "biased"),
            Wire("sum", wiring.ADD, ("biased", "c"), "sum"),
            Wire("clipped", wiring.FOLLOW, ("sum",), "clipped"),
            Wire("turned", wiring.PASS, ("clipped",), "turned"),
            Wire("last", wiring.OTHER, ("turned",), "last"),
        ),
    )


def test_a_graph_without_input(tmp_path: Path) -> None:
    file = onnx_file(tmp_path / "a.onnx", [("Conv", ("k",), "c", 1)], inputs=("k",), constants=("k",))
    with pytest.raises(WeightsError, match="its graph has no input"):
        wiring.onnx_wiring(file)


@pytest.mark.parametrize("read", [wiring.onnx_wiring, wiring.tflite_wiring, wiring.frozen_graph_wiring])
def test_files_that_are_not_there_or_damaged(tmp_path: Path, read) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    (tmp_path / "broken").write_bytes(b"\xff" * 64)
    with pytest.raises(WeightsError):
        read(tmp_path / "broken")


@pytest.fixture(scope="module")
def checkpoint():
    return checkpoint_of()


def kinds(found: wiring.Wiring) -> dict[str, int]:
    return {kind: sum(wire.kind == kind for wire in found.wires) for kind in {wire.kind for wire in found.wires}}


def test_files_of_one_network_are_wired_alike(tmp_path: Path, checkpoint) -> None:
    (tmp_path / "a.onnx").write_bytes(onnx_bytes(checkpoint))
    (tmp_path / "a.tflite").write_bytes(tflite_bytes(checkpoint))
    onnx, tflite = wiring.onnx_wiring(tmp_path / "a.onnx"), wiring.tflite_wiring(tmp_path / "a.tflite")
    for kind in (wiring.CONV, wiring.DEPTHWISE, wiring.DENSE, wiring.ADD, wiring.POOL):
        assert kinds(onnx).get(kind, 0) == kinds(tflite).get(kind, 0), kind
    assert kinds(tflite)[wiring.DEPTHWISE] == 17
    assert kinds(tflite)[wiring.CONV] == 1 + 16 + 17 + 1
    for found in (onnx, tflite):
        known = {found.image}
        for wire in found.wires:
            assert wire.sources
            assert set(wire.sources) <= known, "in the order of computation"
            known.add(wire.key)


def test_steps_of_quantized_values(tmp_path: Path) -> None:
    checkpoint = quantized_checkpoint(depth_multiplier=0.35)
    (tmp_path / "a.tflite").write_bytes(tflite_bytes(checkpoint))
    by_name = {wire.name: wire for wire in wiring.tflite_wiring(tmp_path / "a.tflite").wires}
    for name in ("Conv1", "block_5_project"):
        q = checkpoint.quantization.values[name]
        assert (by_name[name].scale, by_name[name].zero_point) == (q.scale[0], q.zero_point)


def test_inner_values_of_tflite(tmp_path: Path, checkpoint) -> None:
    interpreter_of = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    (tmp_path / "a.tflite").write_bytes(tflite_bytes(checkpoint))
    names = ["block_2_expand", "Conv1"]
    keys = {wire.name: wire.key for wire in wiring.tflite_wiring(tmp_path / "a.tflite").wires}
    data = wiring.tflite_with_outputs(tmp_path / "a.tflite", [keys[name] for name in names])
    x = images_for(checkpoint, batch=1)
    interpreter = interpreter_of(model_content=data)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]
    for value, expected in zip(found, values_of(checkpoint, x, names).values(), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5 * np.abs(expected).max())


def test_inner_values_of_onnx(tmp_path: Path, checkpoint) -> None:
    runtime = pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(onnx_bytes(checkpoint))
    data = wiring.onnx_with_outputs(tmp_path / "a.onnx", ["block_2_expand"])
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()][-1] == "block_2_expand"
    x = images_for(checkpoint, batch=1)
    (found,) = session.run(["block_2_expand"], {"image": x.transpose(0, 3, 1, 2)})
    (expected,) = values_of(checkpoint, x, ["block_2_expand"]).values()
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), expected, atol=1e-5 * np.abs(expected).max())

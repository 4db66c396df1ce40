"""Graphs in either notation: which operation is which layer, and where its weights are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from weight_files import constant, field, folded, frozen_graph, node, random_checkpoint

from npmnv2 import WeightsError
from npmnv2.weights_tools import read

RNG = np.random.default_rng(0)


def graph_of(*more: bytes, without=()) -> bytes:
    """A network in which some operations are replaced."""
    checkpoint = folded(random_checkpoint())
    nodes = frozen_graph(checkpoint)
    for name in without:
        kept = [each for each in _nodes(nodes) if f"\n{chr(len(name))}{name}".encode() != each[1][: len(name) + 2]]
        nodes = b"".join(whole for whole, _ in kept)
    return nodes + b"".join(more)


def _nodes(data: bytes):
    """Every field of a GraphDef, and its content."""
    position = 0
    while position < len(data):
        start, position, length, shift = position, position + 1, 0, 0
        while True:
            byte = data[position]
            length |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                break
        yield data[start : position + length], data[position : position + length]
        position += length


SCOPE = "MobilenetV2/expanded_conv_1/project"
STRIDES = field(1, b"".join(field(3, 1) for _ in range(4)))


def write(path: Path, *operations: bytes) -> Path:
    path.write_bytes(graph_of(*operations, without=(f"{SCOPE}/Conv2D", f"{SCOPE}/BiasAdd")))
    return path


def project(name: str = f"{SCOPE}/Conv2D", kernel: str = f"{SCOPE}/weights") -> bytes:
    return node(name, "Conv2D", ["x", kernel], strides=STRIDES)


EXPECTED = folded(random_checkpoint()).weights


@pytest.mark.parametrize("name", ["Conv2D", "BatchNorm/FusedBatchNorm/Mul", "BatchNorm/batchnorm/mul_1"])
def test_the_scope_may_be_some_levels_up(tmp_path: Path, name) -> None:
    operation = f"{SCOPE}/{name}"
    path = write(tmp_path / "g.pb", project(operation), node("add", "Add", [operation, f"{SCOPE}/biases"]))
    np.testing.assert_array_equal(read(path).weights["block_1_project/kernel"], EXPECTED["block_1_project/kernel"])


def test_the_kernel_says_which_layer_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", project("fused/17"), node("add", "Add", ["fused/17", f"{SCOPE}/biases"]))
    np.testing.assert_array_equal(read(path).weights["block_1_project/bias"], EXPECTED["block_1_project/bias"])


def test_a_residual_that_is_added_before_the_bias(tmp_path: Path) -> None:
    residual = node("sum", "AddN", [f"{SCOPE}/Conv2D", "before"])
    path = write(tmp_path / "g.pb", project(), residual, node("add", "Add", [f"{SCOPE}/biases", "sum"]))
    np.testing.assert_array_equal(read(path).weights["block_1_project/bias"], EXPECTED["block_1_project/bias"])


def test_a_factor_and_an_addend(tmp_path: Path) -> None:
    kernel = EXPECTED["block_1_project/kernel"]
    factors = RNG.uniform(0.5, 2, kernel.shape[3]).astype(np.float32)
    operations = [
        constant("factors", factors),
        node("scaled", "Mul", [f"{SCOPE}/Conv2D", "factors"]),
        node("add", "AddV2", ["scaled", f"{SCOPE}/biases"]),
    ]
    found = read(write(tmp_path / "g.pb", project(), *operations)).weights
    np.testing.assert_array_equal(found["block_1_project/kernel"], (kernel * factors.astype(np.float64)).astype("<f4"))
    np.testing.assert_array_equal(found["block_1_project/bias"], EXPECTED["block_1_project/bias"])
    operations[0] = constant("factors", factors[1:])
    with pytest.raises(WeightsError, match=r"block_1_project: \d+ factors for a kernel of shape"):
        read(write(tmp_path / "g.pb", project(), *operations))


def test_two_operations_for_one_layer(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", project(), project(f"{SCOPE}/other"))
    with pytest.raises(WeightsError, match="two operations look like layer block_1_project"):
        read(path)


@pytest.mark.parametrize(
    "kind", ["Conv2D", "DepthwiseConv2dNative", "MatMul", "Mul", "FusedBatchNormV3", "Placeholder"]
)
def test_operations_without_inputs_compute_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "g.pb"
    path.write_bytes(node("lost", kind, []) + graph_of())
    np.testing.assert_array_equal(read(path).weights["block_1_project/kernel"], EXPECTED["block_1_project/kernel"])


def test_a_kernel_that_is_quantized_from_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "g.pb", project(kernel="fake"), node("fake", "FakeQuantWithMinMaxVars", []))
    with pytest.raises(WeightsError, match="block_1_project"):
        read(path)

"""What layers of bytes become: the steps that `emission` does not have."""

from __future__ import annotations

from typing import get_args

import pytest
from npmnv2.kernels.host import steps
from npmnv2.kernels.host.target import IntegerTarget, Target

from npmnv2.backends.allocation import allocate
from npmnv2.backends.byte_emission import ByteEmitter
from npmnv2.backends.emission import EMITTERS, Storage
from npmnv2.backends.fusion import Operation
from npmnv2.backends.packed_integers import PackedIntegers
from npmnv2.backends.partition import Subgraph
from npmnv2.kernels import TensorQuantization
from npmnv2.network.layers import Add, AveragePool, GlobalAveragePool, ResizeLike, SimpleLayer
from npmnv2.network.plan import Node, Plan
from npmnv2.network.quantization import Quantization

TARGET = IntegerTarget(Target(8, 16), "xnnpack")
Q, OTHER = (TensorQuantization((scale,), 3, "uint8") for scale in (0.5, 0.25))
KINDS = {
    steps.COPY: "copy", steps.ADD: "add", steps.POOL: "pool", steps.RESIZE: "resize", steps.LOOKUP: "lookup",
}  # fmt: skip


def emitted(layer, shapes, output=Q):
    """The instructions of one layer that reads maps from outside, and the builder."""
    inputs = tuple(name for name in shapes if name != "layer")
    node = Node("layer", layer, inputs)
    read = Node("layer", layer, ("image",) * len(inputs))
    quantization = Quantization({"image": Q, "layer": output}, {})
    weights = PackedIntegers(Plan((read,), 4), {}, quantization, TARGET)
    emitter = ByteEmitter(Subgraph((node,), inputs, ("layer",), True), shapes, weights, 1)
    emitter.run([Operation(("layer",), layer, inputs)])
    return emitter


def steps_of(emitter) -> list[tuple[str, str, Storage]]:
    """Kind, output and its storage of every step."""
    allocation = allocate(emitter.instructions, ("a", "b", "layer"), emitter.build)
    kinds = [KINDS[int(allocation.step(instruction).record["operation"])] for instruction in emitter.instructions]
    return [(kind, i.writes.name, i.writes.storage) for kind, i in zip(kinds, emitter.instructions)]


A, B = ("copy", "a", Storage.ARENA), ("copy", "b", Storage.ARENA)
OUT = ("copy", "layer", Storage.EXTERNAL)


def test_every_type_of_layer_has_an_emitter() -> None:
    emitter = emitted(Add(), {"a": (4, 4, 4), "b": (4, 4, 4), "layer": (4, 4, 4)})
    assert set(emitter.table()) == set(EMITTERS)
    own = {layer for layer in get_args(SimpleLayer) if emitter.table()[layer] is not EMITTERS[layer]}
    assert own == {Add, AveragePool, GlobalAveragePool, ResizeLike}


def test_a_sum_reads_its_numbers() -> None:
    shapes = dict.fromkeys(("a", "b", "layer"), (4, 5, 4))
    emitter = emitted(Add(), shapes)
    assert steps_of(emitter) == [A, B, ("add", "layer", Storage.ARENA), OUT]
    made = allocate(emitter.instructions, ("a", "b", "layer"), emitter.build).step(emitter.instructions[2])
    assert made.record["product"]["finish"] == emitter.weights.sum("layer") != 0


@pytest.mark.parametrize(
    ("layer", "shape", "storage", "window", "stride"),
    [
        (AveragePool(2, 3), (2, 2, 4), Storage.ARENA, (2, 2), 3),
        (GlobalAveragePool(keep_dims=True), (1, 1, 4), Storage.ARENA, (5, 6), 1),
        (GlobalAveragePool(), (4,), Storage.BATCH, (5, 6), 1),
    ],
    ids=str,
)
def test_pools(layer, shape, storage: Storage, window, stride: int) -> None:
    emitter = emitted(layer, {"a": (5, 6, 4), "layer": shape})
    assert steps_of(emitter)[:2] == [A, ("pool", "layer", storage)]
    made = allocate(emitter.instructions, ("a", "layer"), emitter.build).step(emitter.instructions[1])
    pool = made.record["pool"]
    assert (pool["height"], pool["width"], pool["stride"]) == (*window, stride)
    assert [i.batched for i in emitter.instructions] == [False, False, storage is Storage.BATCH]


RESIZED, LOOKED_UP = ("resize", "layer", Storage.ARENA), ("lookup", "layer", Storage.ARENA)


@pytest.mark.parametrize(
    ("size", "output", "expected"),
    [
        ((3, 2, 4), Q, [RESIZED]),
        ((3, 2, 4), OTHER, [("resize", "layer/between", Storage.ARENA), LOOKED_UP]),
        ((1, 1, 4), OTHER, [("lookup", "layer/between", Storage.ARENA), RESIZED]),
        ((1, 2, 4), OTHER, [("resize", "layer/between", Storage.ARENA), LOOKED_UP]),
    ],
    ids=["one scale", "another scale", "a pixel", "a row"],
)
def test_a_resize_looks_up_what_it_has_to(size, output, expected) -> None:
    """A table takes one scale to another: of a single pixel before it is spread, and otherwise of every result."""
    emitter = emitted(ResizeLike("tf1"), {"a": size, "b": (6, 5, 4), "layer": (6, 5, 4)}, output)
    assert steps_of(emitter) == [A, *expected, OUT]
    between = [i.writes.shape for i in emitter.instructions if i.writes.name == "layer/between"]
    assert between == ([] if len(expected) == 1 else [size if size[:2] == (1, 1) else (6, 5, 4)])

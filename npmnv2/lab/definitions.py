"""Layers as NumPy code: what a node or a part of a plan computes, in a few lines that run.

The code needs NumPy alone. It takes the layer's inputs, (N, H, W, C), and a dictionary of folded weights
(`MobileNetV2PreTrainedModel.folded_weights`). It is written to be read, not to be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from npmnv2.errors import ArgumentError
from npmnv2.network.activations import CLIPS
from npmnv2.network.layers import (
    Add,
    AveragePool,
    Concat,
    ConcatRows,
    Conv,
    Dense,
    Depthwise,
    GlobalAveragePool,
    ResizeLike,
    Shape,
)
from npmnv2.network.plan import Node, Part, Plan, parts_of

_WINDOWS = '''\
def windows(x, size, stride, dilation, padding):
    """What every output pixel sees: (N, H, W, C, size, size)."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    reach = (size - 1) * dilation + 1
    seen = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), axis=(1, 2))
    return seen[:, ::stride, ::stride, :, ::dilation, ::dilation]
'''

_RESIZE = '''\
def resize(x, sizes):
    """Bilinear, along one axis after the other."""
    for axis, size in zip((1, 2), sizes):
        last = x.shape[axis] - 1
        at = np.clip({points}, 0, last)
        lower = np.floor(at).astype(int)
        weight = (at - lower).reshape((-1, 1, 1) if axis == 1 else (-1, 1)).astype(x.dtype)
        a, b = np.take(x, lower, axis), np.take(x, np.minimum(lower + 1, last), axis)
        x = a + weight * (b - a)
    return x
'''

# Where the pixels of the result lie on the source.
_POINTS = {
    "tf1": "np.arange(size) * (last + 1) / size",
    "tf1_align_corners": "np.arange(size) * last / max(size - 1, 1)",
    "half_pixel": "(np.arange(size) + 0.5) * (last + 1) / size - 0.5",
}


def definition(plan: Plan, name: str, height: int, width: int) -> str:
    """The code of one endpoint, a function with its name, for images of this size.

    Parameters
    ----------
    plan : Plan
    name : str
        Of a node or of a part of one, or an alias.
    height, width : int
        Of the image, on which TensorFlow's padding depends.

    Raises
    ------
    ArgumentError
        If there is no such endpoint, or its activation is a function of the caller's.
    """
    parts = parts_at(plan, name)
    own = {part.name for part in parts}
    given = list(dict.fromkeys(source for part in parts for source in part.inputs if source not in own))
    local = {part.name: part.name.rpartition("_")[2] if len(parts) > 1 else "y" for part in parts}
    local |= {source: "x" if len(given) == 1 else f"x{number}" for number, source in enumerate(given)}
    shapes = plan.shapes(height, width)
    body = [line for part in parts for line in _part(part, local, shapes)]
    head = f"def {plan.resolve(name)}({', '.join(local[source] for source in given)}, weights):"
    lines = [head, *body, f"return {local[parts[-1].name]}"]
    return "\n\n\n".join(["import numpy as np", *_helpers(parts), "\n    ".join(lines)]) + "\n"


def parts_at(plan: Plan, name: str) -> tuple[Part, ...]:
    """The parts of the node, or the one part, that an endpoint's name or alias stands for."""
    name = plan.resolve(name)
    for node in plan.nodes:
        if node.name == name:
            return parts_of(node)
        for part in parts_of(node):
            if part.name == name:
                return (part,)
    raise AssertionError(name)


def node_at(plan: Plan, name: str) -> Node:
    """The node that an endpoint belongs to."""
    last = parts_at(plan, name)[-1].name
    return next(node for node in plan.nodes if last in {part.name for part in parts_of(node)})


def _helpers(parts: tuple[Part, ...]) -> Iterator[str]:
    if any(isinstance(part.layer, (Conv, Depthwise)) and part.layer.kernel > 1 for part in parts):
        yield _WINDOWS.rstrip()
    for part in parts:
        if isinstance(part.layer, ResizeLike):
            yield _RESIZE.rstrip().replace("{points}", _POINTS[part.layer.variant])


def _part(part: Part, local: Mapping[str, str], shapes: Mapping[str, Shape]) -> Iterator[str]:
    """A comment, the layer's own line, and its activation."""
    result, inputs = local[part.name], [local[name] for name in part.inputs]
    comment, expression = _LAYERS[type(part.layer)](part, inputs, shapes)
    yield f"# {part.name}: {comment}"
    if isinstance(part.layer, (Conv, Depthwise, Dense)):
        expression = f'{expression} + weights["{part.name}/bias"]'
    yield f"{result} = {expression}"
    yield from _activation(part, result)


def _activation(part: Part, result: str) -> Iterator[str]:
    name = getattr(part.layer, "activation", "linear")
    if name == "linear":
        return
    if callable(name):
        raise ArgumentError(f"{part.name} must have an activation with a name to be written as code, got {name!r}")
    if name in CLIPS:
        low, high = CLIPS[name]
        yield f"{result} = np.clip({result}, {low:g}, {'None' if high == float('inf') else f'{high:g}'})"
    else:
        yield "from npmnv2.network.activations import activation"
        yield f'{result} = activation("{name}").function({result})'


# --- one function a layer: a comment and an expression ----------------------------------------------------------------


def _kernel(part: Part) -> str:
    return f'weights["{part.name}/kernel"]'


def _convolution(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    layer, before, after = part.layer, shapes[part.inputs[0]], shapes[part.name]
    assert isinstance(layer, Conv)
    channels = f"{before[-1]} → {after[-1]} channels"
    if layer.kernel == layer.stride == 1:
        return f"1×1, {channels}, {layer.activation}", f"{inputs[0]} @ {_kernel(part)}"
    about, seen = _windowed(layer, inputs[0], before)
    return f"{about}, {channels}", f'np.einsum("nijcab,abco->nijo",\n        {seen},\n        {_kernel(part)})'


def _depthwise(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    assert isinstance(part.layer, Depthwise)
    about, seen = _windowed(part.layer, inputs[0], shapes[part.inputs[0]])
    einsum = f'np.einsum("nijcab,abc->nijc",\n        {seen},\n        {_kernel(part)})'
    return f"{about}, each channel on its own", einsum


def _windowed(layer: Conv | Depthwise, x: str, shape: Shape) -> tuple[str, str]:
    padding = layer.geometry(*shape[:2]).padding
    about = f"{layer.kernel}×{layer.kernel}, stride {layer.stride}, {layer.activation}"
    about += f", dilation {layer.dilation}" if layer.dilation > 1 else ""
    return about, f"windows({x}, {layer.kernel}, {layer.stride}, {layer.dilation}, {padding})"


def _dense(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    return f"{shapes[part.inputs[0]][-1]} → {shapes[part.name][-1]} classes", f"{inputs[0]} @ {_kernel(part)}"


def _add(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    return "the residual connection", f"{inputs[0]} + {inputs[1]}"


def _concat(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    return "along the channels", f"np.concatenate([{', '.join(inputs)}], axis=-1)"


def _concat_rows(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    assert isinstance(part.layer, ConcatRows)
    rows = ", ".join(f"{x}.reshape(len({x}), -1, {part.layer.columns})" for x in inputs)
    return f"one row of {part.layer.columns} for every anchor", f"np.concatenate([{rows}], axis=1)"


def _global_pool(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    assert isinstance(part.layer, GlobalAveragePool)
    keep = ", keepdims=True" if part.layer.keep_dims else ""
    return "mean of all pixels", f"{inputs[0]}.mean(axis=(1, 2){keep})"


def _average_pool(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    assert isinstance(part.layer, AveragePool)
    window, stride = part.layer.window, part.layer.stride
    seen = f"np.lib.stride_tricks.sliding_window_view({inputs[0]}, ({window}, {window}), axis=(1, 2))"
    return f"mean of {window}×{window}", f"{seen}[:, ::{stride}, ::{stride}].mean(axis=(-2, -1))"


def _resize(part: Part, inputs: list[str], shapes: Mapping[str, Shape]) -> tuple[str, str]:
    height, width, _ = shapes[part.name]
    return f"to {height}×{width}", f"resize({inputs[0]}, ({height}, {width}))"


_LAYERS: dict[type[Any], Callable[[Part, list[str], Mapping[str, Shape]], tuple[str, str]]] = {
    Conv: _convolution,
    Depthwise: _depthwise,
    Dense: _dense,
    Add: _add,
    Concat: _concat,
    ConcatRows: _concat_rows,
    GlobalAveragePool: _global_pool,
    AveragePool: _average_pool,
    ResizeLike: _resize,
}

"""The operations that the Object Detection API puts around a network, as nodes of a GraphDef."""

from __future__ import annotations

import numpy as np
from weight_files import constant, field, node, shape_message, varint

from npmnv2.kernels import anchor_shapes

LOOP = "Postprocessor/BatchMultiClassNonMaxSuppression/map/while/MultiClassNonMaxSuppression"


def number(name, value) -> bytes:
    """A real number, or an integer, as a graph states it."""
    if isinstance(value, int):
        tensor = field(1, 3) + field(2, b"") + field(7, value)
    else:
        tensor = field(1, 1) + field(2, b"") + varint(5 << 3 | 5) + np.float32(value).tobytes()
    return node(name, "Const", value=field(8, tensor))


def integers(name, *values) -> bytes:
    content = np.array(values, "<i4")
    tensor = field(1, 3) + field(2, shape_message(content.shape)) + field(4, content.tobytes())
    return node(name, "Const", value=field(8, tensor))


def resize(height, width) -> list[bytes]:
    return [
        integers("Preprocessor/ResizeImage/stack", height, width),
        node("Preprocessor/ResizeImage/ResizeBilinear", "ResizeBilinear", ["x", "Preprocessor/ResizeImage/stack"]),
    ]


def preparation(factor=0.007843138, offset=1.0) -> list[bytes]:
    return [number("Preprocessor/mul/x", factor), number("Preprocessor/sub/y", offset)]


def scores(kind="Sigmoid", begin=(0, 0, 1)) -> list[bytes]:
    converter = [node("Postprocessor/convert_scores", kind, ["logits"])]
    return [*converter, integers("Postprocessor/Slice/begin", *begin)]


def coder(scales=(10.0, 10.0, 5.0, 5.0), kind="RealDiv") -> list[bytes]:
    out = []
    for suffix, scale in zip(("", "_1", "_2", "_3"), scales):
        name = f"Postprocessor/Decode/truediv{suffix}"
        out.append(number(f"{name}/y", scale if kind == "RealDiv" else 1 / scale))
        out.append(node(name, kind, ["codes", f"{name}/y"]))
    return out


def anchors(config) -> list[bytes]:
    """The constants from which a graph computes anchors by these options."""
    out = []
    for index, shapes in enumerate(anchor_shapes(config.ssd.n_maps, config.ssd.anchors.rules)):
        scales, ratios = np.array(shapes, np.float32).T
        root = f"MultipleGridAnchorGenerator/Sqrt{f'_{index}' if index else ''}"
        out += [constant(f"{root}/x", ratios), node(root, "Sqrt", [f"{root}/x"])]
        for kind, name in (("RealDiv", "truediv"), ("Mul", "mul")):
            name = f"MultipleGridAnchorGenerator/{name}_{index + 14}"
            out += [constant(f"{name}/x", scales), node(name, kind, [f"{name}/x", root])]
    return out


def suppression(version, classes, *, iou=0.6, score=0.3, per_class=100, total=100, clip="last") -> list[bytes]:
    """One suppression for each class, and the operations around them."""
    out = [number(f"{LOOP}/iou", iou), number(f"{LOOP}/score", score), number(f"{LOOP}/Greater/y", 0.0)]
    threshold = f"{LOOP}/FilterGreaterThan/Greater"
    boxes, extra = f"{LOOP}/unstack", [f"{LOOP}/score"]
    if version == 2:
        out += [number(f"{threshold}/y", score), node(threshold, "Greater", ["scores", f"{threshold}/y"])]
        extra = []
    window = f"{LOOP}/ClipToWindow/Gather"
    if clip == "first":
        out.append(node(window, "GatherV2", [boxes]))
        boxes = window
    for index in range(classes + 1):
        name = f"{LOOP}/Minimum{f'_{index}' if index else ''}"
        bound = per_class if index < classes else total
        out += [number(f"{name}/x", bound), node(name, "Minimum", [f"{name}/x", "many"])]
        if index < classes:
            inputs = [boxes, f"scores_{index}", name, f"{LOOP}/iou", *extra]
            out.append(node(f"{LOOP}/nms_{index}", f"NonMaxSuppressionV{version}", inputs))
    if clip == "last":
        out.append(node(window, "GatherV2", [f"{LOOP}/nms_0"]))
    return out


def corners(boxes):
    centers, sizes = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float32)


def listed(boxes) -> list[bytes]:
    return [
        constant("Postprocessor/ExpandDims", corners(boxes)[None]),
        node("Postprocessor/Tile", "Tile", ["Postprocessor/ExpandDims", "multiples"]),
    ]

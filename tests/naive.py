"""The operations as plain loops straight from their definitions: the lowest rung, against which NumPy is checked."""

from __future__ import annotations

import itertools
import math

import numpy as np


def conv(x, kernel, bias, geometry, clip):
    """One output number at a time, in float64."""
    kh, kw, cin, cout = kernel.shape
    out = np.empty((x.shape[0], *_size(x, kh, kw, geometry), cout))
    for n, i, j, o in np.ndindex(*out.shape):
        total = float(bias[o])
        for a, b, pixel in _taps(x[n], i, j, kh, kw, geometry):
            for c in range(cin):
                total += float(pixel[c]) * float(kernel[a, b, c, o])
        out[n, i, j, o] = min(max(total, clip[0]), clip[1])
    return out


def depthwise(x, kernel, bias, geometry, clip):
    kh, kw, channels = kernel.shape
    out = np.empty((x.shape[0], *_size(x, kh, kw, geometry), channels))
    for n, i, j, c in np.ndindex(*out.shape):
        total = float(bias[c])
        for a, b, pixel in _taps(x[n], i, j, kh, kw, geometry):
            total += float(pixel[c]) * float(kernel[a, b, c])
        out[n, i, j, c] = min(max(total, clip[0]), clip[1])
    return out


def pointwise(x, kernel, bias, clip):
    return conv(x, kernel[None, None], bias, (1, 1, ((0, 0), (0, 0))), clip)


def add(x, y):
    out = np.empty(x.shape)
    for at in np.ndindex(*x.shape):
        out[at] = float(x[at]) + float(y[at])
    return out


def concat(*maps):
    n, h, w, _ = maps[0].shape
    return np.array([[[[v for m in maps for v in m[a, b, c]] for c in range(w)] for b in range(h)] for a in range(n)])


def average_pool(x, window, stride):
    n, h, w, c = x.shape
    out = np.empty((n, (h - window) // stride + 1, (w - window) // stride + 1, c))
    for at, i, j, channel in np.ndindex(*out.shape):
        values = [
            float(x[at, i * stride + a, j * stride + b, channel])
            for a, b in itertools.product(range(window), range(window))
        ]
        out[at, i, j, channel] = sum(values) / window**2
    return out


def global_average_pool(x):
    n, h, w, c = x.shape
    out = np.empty((n, c))
    for at, channel in np.ndindex(n, c):
        out[at, channel] = sum(float(x[at, i, j, channel]) for i in range(h) for j in range(w)) / (h * w)
    return out


def dense(x, kernel, bias):
    out = np.empty((x.shape[0], kernel.shape[1]))
    for n, o in np.ndindex(*out.shape):
        out[n, o] = float(bias[o]) + sum(float(x[n, c]) * float(kernel[c, o]) for c in range(kernel.shape[0]))
    return out


def softmax(x):
    out = np.empty(x.shape)
    for n, row in enumerate(x):
        powers = [math.exp(float(v) - float(max(row))) for v in row]
        out[n] = [p / sum(powers) for p in powers]
    return out


def resize_bilinear(x, size, variant):
    n, h, w, c = x.shape
    out = np.empty((n, *size, c))
    for at, i, j, channel in np.ndindex(*out.shape):
        (y0, y1, fy), (x0, x1, fx) = _between(i, h, size[0], variant), _between(j, w, size[1], variant)
        plane = x[at, :, :, channel].astype(float)
        top = plane[y0, x0] * (1 - fx) + plane[y0, x1] * fx
        bottom = plane[y1, x0] * (1 - fx) + plane[y1, x1] * fx
        out[at, i, j, channel] = top * (1 - fy) + bottom * fy
    return out


def _between(at, size, out_size, variant):
    """The two inputs around one output entry, and the share of the second."""
    if variant == "tf1_align_corners" and out_size > 1:
        source = at * (size - 1) / (out_size - 1)
    elif variant == "half_pixel":
        source = max((at + 0.5) * size / out_size - 0.5, 0)
    else:
        source = at * size / out_size
    # A rounded coordinate may be one beyond the last.
    lower = min(math.floor(source), size - 1)
    return lower, min(lower + 1, size - 1), source - math.floor(source)


def _size(x, kh, kw, geometry):
    stride, dilation, padding = geometry
    return tuple(
        (size + sum(pad) - (k - 1) * dilation - 1) // stride + 1
        for size, k, pad in zip(x.shape[1:3], (kh, kw), padding)
    )


def _taps(image, i, j, kh, kw, geometry):
    """The taps of a window that lie on the image, with their pixels."""
    stride, dilation, ((top, _), (left, _)) = geometry
    for a, b in itertools.product(range(kh), range(kw)):
        row, column = i * stride + a * dilation - top, j * stride + b * dilation - left
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            yield a, b, image[row, column]


# --- integers --------------------------------------------------------------------------------------------------------


def integer_conv(x, kernel, bias, geometry, quantization, arithmetic):
    kh, kw, cin, cout = kernel.shape
    source, filters, output = quantization
    out = np.empty((x.shape[0], *_size(x, kh, kw, geometry), cout), output.dtype)
    for n, i, j, o in np.ndindex(*out.shape):
        total = int(bias[o])
        for a, b, pixel in _taps(x[n], i, j, kh, kw, geometry):
            for c in range(cin):
                total += (int(pixel[c]) - source.zero_point) * (int(kernel[a, b, c, o]) - filters.zero_point)
        out[n, i, j, o] = rescale(total, o, quantization, arithmetic)
    return out


def integer_depthwise(x, kernel, bias, geometry, quantization, arithmetic):
    kh, kw, channels = kernel.shape
    source, filters, output = quantization
    out = np.empty((x.shape[0], *_size(x, kh, kw, geometry), channels), output.dtype)
    for n, i, j, c in np.ndindex(*out.shape):
        total = int(bias[c])
        for a, b, pixel in _taps(x[n], i, j, kh, kw, geometry):
            total += (int(pixel[c]) - source.zero_point) * (int(kernel[a, b, c]) - filters.zero_point)
        out[n, i, j, c] = rescale(total, c, quantization, arithmetic)
    return out


def rescale(total, channel, quantization, arithmetic):
    """One sum, in Python's own numbers."""
    source, filters, output = quantization
    weight_scale = filters.scale[channel if len(filters.scale) > 1 else 0]
    if arithmetic == "xnnpack":
        factor = np.float32(np.float32(source.scale[0]) * np.float32(weight_scale)) / np.float32(output.scale[0])
        steps = round(float(np.float32(total) * factor))
        six = round(float(np.float32(6) / np.float32(output.scale[0])))
    else:
        product = source.scale[0] * weight_scale
        factor = (float(np.float32(product)) if source.dtype == "uint8" else product) / output.scale[0]
        fraction, exponent = math.frexp(factor)
        mantissa = math.floor(fraction * 2**31 + 0.5)
        if mantissa == 2**31:
            mantissa, exponent = 2**30, exponent + 1
        steps = rounding_shift(saturating_multiply(total * 2 ** max(exponent, 0), mantissa), max(-exponent, 0))
        six = math.floor(float(np.float32(6) / np.float32(output.scale[0])) + 0.5)
    low, high = np.iinfo(output.dtype).min, np.iinfo(output.dtype).max
    if output.activation != "linear":
        low = max(low, output.zero_point)
    if output.activation == "relu6":
        high = min(high, output.zero_point + six)
    return min(max(steps + output.zero_point, low), high)


def saturating_multiply(a, b):
    product = a * b + (2**30 if a * b >= 0 else 1 - 2**30)
    return min(abs(product) // 2**31 * (1 if product >= 0 else -1), 2**31 - 1)


def rounding_shift(x, bits):
    """x / 2^bits, ties away from zero."""
    half = 2**bits // 2
    return (abs(x) + half) // 2**bits * (1 if x >= 0 else -1)


def integer_average_pool(x, window, stride):
    n, h, w, c = x.shape
    out = np.empty((n, (h - window[0]) // stride + 1, (w - window[1]) // stride + 1, c), x.dtype)
    for at, i, j, channel in np.ndindex(*out.shape):
        taps = itertools.product(range(window[0]), range(window[1]))
        total = sum(int(x[at, i * stride + a, j * stride + b, channel]) for a, b in taps)
        count = window[0] * window[1]
        size = (abs(total) + count // 2) // count
        out[at, i, j, channel] = size if total > 0 else -size
    return out


# --- detection -------------------------------------------------------------------------------------------------------


def ssd_anchors(sizes):
    """The anchors of the published detectors, in float64."""
    scales = [0.2 + 0.75 / (len(sizes) - 1) * k for k in range(len(sizes))] + [1.0]
    out = []
    for k, (height, width) in enumerate(sizes):
        shapes = [(scales[k], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        shapes.append((math.sqrt(scales[k] * scales[k + 1]), 1.0))
        if k == 0:
            shapes = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        for i, j, (scale, ratio) in itertools.product(range(height), range(width), shapes):
            out.append([(i + 0.5) / height, (j + 0.5) / width, scale / math.sqrt(ratio), scale * math.sqrt(ratio)])
    return np.array(out)


def decode_box(code, anchor):
    """One box, in float64."""
    (ty, tx, th, tw), (y, x, height, width) = map(float, code), map(float, anchor)
    y, x = y + ty / 10 * height, x + tx / 10 * width
    height, width = height * math.exp(th / 5), width * math.exp(tw / 5)
    return [y - height / 2, x - width / 2, y + height / 2, x + width / 2]


def overlap(a, b):
    """Intersection over union of two boxes, in the numbers that they have."""
    a, b = ([min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])] for box in (a, b))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    if min(areas) <= 0:
        return a[0] * 0
    height, width = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(height, height * 0) * max(width, width * 0)
    return shared / (areas[0] + areas[1] - shared)


def non_max_suppression(boxes, scores, max_outputs, iou_threshold, score_threshold, or_equal=False):
    """One box after the other by descending score; of equal ones the first."""
    passed = [i for i, s in enumerate(scores) if s > score_threshold or (or_equal and s == score_threshold)]
    selected = []
    for i in sorted(passed, key=lambda i: (-scores[i], i)):
        if len(selected) < max_outputs and all(overlap(boxes[i], boxes[j]) <= iou_threshold for j in selected):
            selected.append(i)
    return selected


def detections(boxes, scores, rules):
    """Boxes, classes and scores, with one suppression for every class and a sort of what they leave."""
    count, classes = scores.shape
    never, first = rules.clipping == "never", rules.clipping == "first"
    clipped = [box if never else [min(max(v, v * 0), v * 0 + 1) for v in box] for box in boxes]
    visible = [never or (box[2] - box[0]) * (box[3] - box[1]) > 0 for box in clipped]
    anchors = [i for i in range(count) if visible[i] or not first]
    suppressed = np.array(clipped if first else boxes).reshape(-1, 4)[anchors]
    found = []
    if rules.agnostic:
        best = [max(range(classes), key=lambda c: (scores[i, c], -c)) for i in anchors]
        values = [scores[i, c] for i, c in zip(anchors, best)]
        limits = (rules.max_total, np.float32(rules.iou_threshold), np.float32(rules.score_threshold))
        kept = non_max_suppression(suppressed, values, *limits)
        found = [(values[k], best[k], anchors[k]) for k in kept]
    for c in range(0 if rules.agnostic else classes):
        values = [scores[i, c] for i in anchors]
        limits = (rules.max_per_class, np.float32(rules.iou_threshold), np.float32(rules.score_threshold))
        found += [(values[k], c, anchors[k]) for k in non_max_suppression(suppressed, values, *limits)]
    found = [f for f in sorted(found, key=lambda f: -f[0]) if visible[f[2]]][: rules.max_total]
    return [clipped[i] for _, _, i in found], [c for _, c, _ in found], [score for score, _, _ in found]

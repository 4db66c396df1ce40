"""What Hypothesis draws: sizes that are awkward on purpose."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from npmnv2.kernels import NO_CLIP, RELU, RELU6, VARIANTS, Geometry, output_size, same_padding

sizes = st.integers(1, 12)
# Below, at and above vectors of 4, 8 and 16 floats.
channels = st.sampled_from([1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 33])
clips = st.sampled_from([NO_CLIP, RELU, RELU6, (-0.5, 0.25)])
seeds = st.integers(0, 2**32 - 1)


def arrays(seed, *shapes, dtype=np.float32):
    """Arrays of normal numbers."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


@st.composite
def geometries(draw, height, width, kernel):
    """TF SAME or any explicit padding, such that at least one window fits."""
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    if draw(st.booleans()):
        padding = tuple(same_padding(size, kernel, stride, dilation) for size in (height, width))
    else:
        padding = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(2))
        for size, pad in zip((height, width), padding):
            if output_size(size, kernel, 1, dilation, pad) < 1:
                return Geometry(stride, 1, ((kernel, kernel), (kernel, kernel)))
    return Geometry(stride, dilation, padding)


@st.composite
def conv_arguments(draw):
    h, w, cin, cout, kernel = draw(sizes), draw(sizes), draw(st.integers(1, 5)), draw(channels), draw(st.integers(1, 4))
    x, k, b = arrays(draw(seeds), (draw(st.integers(1, 2)), h, w, cin), (kernel, kernel, cin, cout), (cout,))
    return x, k, b, draw(geometries(h, w, kernel)), draw(clips)


@st.composite
def depthwise_arguments(draw):
    h, w, c, kernel = draw(sizes), draw(sizes), draw(channels), draw(st.sampled_from([1, 2, 3, 3, 3, 5]))
    x, k, b = arrays(draw(seeds), (draw(st.integers(1, 2)), h, w, c), (kernel, kernel, c), (c,))
    return x, k, b, draw(geometries(h, w, kernel)), draw(clips)


@st.composite
def pointwise_arguments(draw):
    h, w, cin, cout = draw(sizes), draw(sizes), draw(channels), draw(channels)
    return *arrays(draw(seeds), (draw(st.integers(1, 2)), h, w, cin), (cin, cout), (cout,)), draw(clips)


@st.composite
def add_arguments(draw):
    shape = (draw(st.integers(1, 2)), draw(sizes), draw(sizes), draw(channels))
    return tuple(arrays(draw(seeds), shape, shape))


@st.composite
def concat_arguments(draw):
    n, h, w = draw(st.integers(1, 2)), draw(sizes), draw(sizes)
    return tuple(arrays(draw(seeds), *((n, h, w, c) for c in draw(st.lists(channels, min_size=1, max_size=3)))))


@st.composite
def average_pool_arguments(draw):
    h, w = draw(sizes), draw(sizes)
    (x,) = arrays(draw(seeds), (draw(st.integers(1, 2)), h, w, draw(channels)))
    return x, draw(st.integers(1, min(h, w))), draw(st.integers(1, 3))


@st.composite
def global_average_pool_arguments(draw):
    return tuple(arrays(draw(seeds), (draw(st.integers(1, 3)), draw(sizes), draw(sizes), draw(channels))))


@st.composite
def dense_arguments(draw):
    cin, cout = draw(channels), draw(channels)
    return tuple(arrays(draw(seeds), (draw(st.integers(1, 9)), cin), (cin, cout), (cout,)))


@st.composite
def softmax_arguments(draw):
    (x,) = arrays(draw(seeds), (draw(st.integers(1, 3)), draw(channels)))
    return (x * np.float32(draw(st.sampled_from([1, 30, 1000]))),)


@st.composite
def resize_arguments(draw):
    (x,) = arrays(draw(seeds), (draw(st.integers(1, 2)), draw(sizes), draw(sizes), draw(st.integers(1, 9))))
    return x, (draw(sizes), draw(sizes)), draw(st.sampled_from(VARIANTS))


# Arguments for every kernel of the registry, by name.
KERNEL_ARGUMENTS = {
    "conv": conv_arguments(),
    "pointwise": pointwise_arguments(),
    "depthwise": depthwise_arguments(),
    "add": add_arguments(),
    "concat": concat_arguments(),
    "average_pool": average_pool_arguments(),
    "global_average_pool": global_average_pool_arguments(),
    "dense": dense_arguments(),
    "softmax": softmax_arguments(),
    "resize_bilinear": resize_arguments(),
}


@st.composite
def box_arrays(draw):
    """Corners on a coarse grid, so that boxes coincide, touch and are empty, or anywhere; some are upside down."""
    rng, size = np.random.default_rng(draw(seeds)), draw(st.integers(0, 24))
    if draw(st.booleans()):
        return (rng.integers(-1, 6, (size, 4)) / 4).astype(np.float32)
    center, half = rng.uniform(0, 1, (size, 2)), rng.uniform(0, 0.4, (size, 2))
    return np.concatenate([center - half, center + half], axis=1).astype(np.float32)


@st.composite
def score_arrays(draw, *shape):
    """Scores with many ties and some that are no numbers, or all different."""
    rng = np.random.default_rng(draw(seeds))
    if draw(st.booleans()):
        return rng.choice(np.array([0, 0.25, 0.5, 0.75, 1, np.nan], np.float32), shape)
    return rng.uniform(0, 1, shape).astype(np.float32)

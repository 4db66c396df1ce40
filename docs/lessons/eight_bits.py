# %% [markdown]
# # How eight bits work
#
# The classifier in the package stores and computes everything in integers of eight bits: 256 steps for each number. It
# needs a quarter of the memory of float32, runs on chips that have no floating point at all, and still names the cat.
# This lesson builds its arithmetic from nothing, in NumPy, and ends with the bits of the real network. The words
# *layer*, *channel* and *kernel* are those of [the first lesson](how_it_works.md).
#
# ## Real numbers on a ruler
#
# An integer q stands for the real number
#
# ```text
# r = scale · (q − zero_point)
# ```
#
# It is a ruler: `scale` is the distance between two marks, and `zero_point` is the mark that is called 0. To *quantize*
# is to read off the nearest mark.

# %%
import matplotlib.pyplot as plt
import numpy as np


def ruler(low, high):
    """The scale and zero point of a uint8 for numbers from low to high."""
    scale = (high - low) / 255
    return scale, round(-low / scale)


def quantize(r, scale, zero_point):
    return np.clip(np.rint(r / scale) + zero_point, 0, 255).astype(np.uint8)


def dequantize(q, scale, zero_point):
    return scale * (q.astype(np.float64) - zero_point)


rng = np.random.default_rng(0)
r = rng.normal(size=10_000)
marks = ruler(r.min(), r.max())
q = quantize(r, *marks)
error = dequantize(q, *marks) - r
print(f"scale {marks[0]:.4f}, zero point {marks[1]}")
print("the first three numbers:", r[:3].round(3), "→", q[:3], "→", dequantize(q[:3], *marks).round(3))
print(f"largest error {np.abs(error).max():.4f}, half a step is {marks[0] / 2:.4f}")

# %% [markdown]
# The zero point is an integer for a reason: 0 must be a mark exactly. Zeros are everywhere in a network, around the
# image and where ReLU6 cuts off, and an error there would be the same in all of them.
#
# How good are 256 marks? Engineers compare the energy of the numbers with the energy of their errors, in decibels (20
# dB: the errors are a tenth, 40 dB: a hundredth). Each bit halves the steps, and so adds 6 dB:


# %%
def decibels(exact, other):
    return 10 * np.log10(np.sum(np.square(exact)) / np.sum(np.square(exact - other)))


for bits in (2, 4, 6, 8, 10):
    step = (r.max() - r.min()) / (2**bits - 1)
    print(f"{bits:2} bits  {decibels(r, np.rint(r / step) * step):5.1f} dB")

# %% [markdown]
# ## Sums of products
#
# A layer is sums of products. Put the ruler of the input, x, and that of the weights, w, into one of them:
#
# ```text
# Σ x · w  =  Σ scale_x (q_x − zero_x) · scale_w (q_w − zero_w)
#          =  scale_x · scale_w · Σ (q_x − zero_x)(q_w − zero_w)
# ```
#
# The scales move out of the sum. What is left inside are integers, so the sum is *exact*: int32 is wide enough for it.
# Only at the end is there one multiplication by a real number, and one rounding to the ruler of the output:

# %%
x, w = rng.normal(size=(50, 24)), rng.normal(size=(24, 8)) / 5
exact = x @ w

ruler_x, ruler_w, ruler_y = (ruler(v.min(), v.max()) for v in (x, w, exact))
q_x, q_w = quantize(x, *ruler_x), quantize(w, *ruler_w)

sums = (q_x.astype(np.int32) - ruler_x[1]) @ (q_w.astype(np.int32) - ruler_w[1])
factor = ruler_x[0] * ruler_w[0] / ruler_y[0]
q_y = np.clip(np.rint(sums * factor) + ruler_y[1], 0, 255).astype(np.uint8)

print("sums are", sums.dtype, f"from {sums.min():,} to {sums.max():,}; the factor is {factor:.5f}")
print(f"result against real numbers: {decibels(exact, dequantize(q_y, *ruler_y)):.1f} dB")

# %% [markdown]
# ## A layer of the real network
#
# The file holds just that: for each kernel integers and a ruler, for each map a ruler. The bias is an int32 in units of
# scale_x · scale_w, so that it can be added to the sum. Here is `block_1_expand`, a matrix product for each pixel, of
# 16 channels with a 16×96 kernel:

# %%
from importlib import resources

import npmnv2

cat = str(resources.files("npmnv2") / "data" / "cat.jpg")
model = npmnv2.load(backend="numpy")
raw = model.trace(model.prepare([cat]), raw=True)  # the integers of every layer

values, kernels = model.quantization.values, model.quantization.kernels
x, w, y = values["expanded_conv_project"], kernels["block_1_expand"], values["block_1_expand"]
for name, marks in (("input", x), ("kernel", w), ("output", y)):
    low, high = marks.real_range
    print(f"{name:7} scale {marks.scale[0]:.6f}  zero point {marks.zero_point:3}  so from {low:6.2f} to {high:5.2f}")

# %%
q_x = raw["expanded_conv"][0].astype(np.int32)  # a block's output is that of its last part, expanded_conv_project
q_w = model.weights["block_1_expand/kernel"][0, 0].astype(np.int32)
bias = model.weights["block_1_expand/bias"]

sums = (q_x - x.zero_point) @ (q_w - w.zero_point) + bias
factor = np.float32(x.scale[0]) * np.float32(w.scale[0]) / np.float32(y.scale[0])
q_y = np.clip(np.rint(sums.astype(np.float32) * factor) + y.zero_point, 0, 255)

print(f"{q_y.size:,} numbers, {np.count_nonzero(q_y != raw['block_1_expand'][0])} of them differ from the network's")

# %% [markdown]
# Where is ReLU6? It is in the ruler. The output's marks go from 0 to 6 and no further, so the clip to 0…255 is the clip
# to 0…6.
#
# These are also the bits of LiteRT, TensorFlow's runtime for telephones. A different runtime may round once more or in
# a different order, and come out one step away: [Integers](../integers.md) follows a number by hand to the place where
# that happens.
#
# ## Where eight bits are too few
#
# One ruler for a whole kernel must hold its largest weight. If channels differ much in size, the small ones get few
# marks. The depthwise kernels of MobileNetV2's first blocks are like that:

# %%
layer = "block_1_depthwise"
real = dequantize(model.weights[f"{layer}/kernel"][..., 0], kernels[layer].scale[0], kernels[layer].zero_point)
largest = np.sort(np.abs(real).max(axis=(0, 1)))
print(f"largest weight of a channel: from {largest[0]:.2f} to {largest[-1]:.2f}, {largest[-1] / largest[0]:.0f} times")
print(f"marks within the smallest channel: {2 * largest[0] / kernels[layer].scale[0]:.0f} of 256")

# %% [markdown]
# A ruler for every output channel (*per-channel* quantization) costs next to nothing: the factor after the sum becomes
# one per channel. Take random weights whose channels differ as much as these:

# %%
rng = np.random.default_rng(1)
kernel = rng.normal(size=(64, 96)) * np.geomspace(largest[0], largest[-1], 96)
maps = rng.normal(size=(500, 64))
exact = maps @ kernel


def rounded(kernel, bits, axis):
    step = 2 * np.abs(kernel).max(axis=axis, keepdims=True) / (2**bits - 1)
    return np.rint(kernel / step) * step


def quality(bits, axis):
    """Median over the channels: a channel counts by its own size."""
    found = maps @ rounded(kernel, bits, axis)
    return np.median([decibels(e, f) for e, f in zip(exact.T, found.T)])


widths = range(3, 11)
one, each = ([quality(bits, axis) for bits in widths] for axis in (None, 0))
print(f"8 bits: one ruler {one[5]:.0f} dB, one for each channel {each[5]:.0f} dB")

figure, axis = plt.subplots(figsize=(6, 2.6), num="Quality in dB against bits, with one ruler and one for each channel")
axis.plot(widths, each, "o-", color="teal", label="a ruler for each channel")
axis.plot(widths, one, "o-", color="firebrick", label="one ruler for the kernel")
axis.set_xlabel("bits", fontsize=8)
axis.set_ylabel("dB", fontsize=8)
axis.tick_params(labelsize=8)
axis.legend(loc="upper left", fontsize=8)

# %% [markdown]
# The network in the package has one ruler for each kernel nevertheless. It was *trained* with rounded numbers, so that
# its weights learned to live with it (*quantization-aware training*). A network that was trained without is better
# served by `model.quantize(photos)`, which uses one for each channel.
#
# ## The whole network
#
# Every layer rounds, and hands its errors on. `dequantized` makes the same network in real numbers, with exactly the
# weights that the integers stand for. So what differs is the rounding of maps alone:

# %%
from npmnv2.lab.quantization import dequantized, quantization_report

float_model = dequantized(model, backend="numpy")
report = quantization_report(float_model, model, [cat])
costs = {cost.name: cost for cost in report.layers if cost.name in model.plan.endpoints}

figure, axis = plt.subplots(figsize=(9, 2.8), num="Quality of every layer, alone and with all rounding before it")
axis.plot([cost.own_snr for cost in costs.values()], color="silver", label="this layer's rounding alone")
axis.plot([cost.snr for cost in costs.values()], color="teal", label="with all rounding before it")
ends = [number for number, name in enumerate(costs) if name.endswith("_project")]
axis.set_xticks(ends, [list(costs)[number].removesuffix("_project") for number in ends], rotation=90, fontsize=7)
axis.tick_params(axis="y", labelsize=8)
axis.set_ylabel("dB", fontsize=8)
axis.legend(loc="upper center", fontsize=8)

for name in ("Conv1", "block_1", "block_8", "block_16", "predictions"):
    cost = costs.get(name) or costs[f"{name}_project"]
    print(f"{cost.name:20} alone {cost.own_snr:5.1f} dB   in all {cost.snr:5.1f} dB")

# %%
photo = model.prepare([cat])
both = [m.run(photo, ["predictions"])["predictions"][0] for m in (float_model, model)]
print("class                 real numbers   integers")
for index in np.argsort(both[0])[::-1][:3]:
    shares = [np.exp(logits[index]) / np.exp(logits).sum() for logits in both]
    print(f"{model.labels[index]:20}  {shares[0]:12.1%}   {shares[1]:8.1%}")

sizes = [sum(array.nbytes for array in m.weights.values()) / 1e6 for m in (float_model, model)]
print(f"weights               {sizes[0]:9.1f} MB   {sizes[1]:5.1f} MB")

# %% [markdown]
# Errors do not grow without end: each sum averages many of them, and ReLU6 cuts many off. What is left moves the shares
# by a few percent and the order of close classes now and then.
#
# Next: [Integers](../integers.md) for the arithmetics of different runtimes, and for quantizing a network of your own.
# The definitions are in [`kernels/quantized/`](../../kernels/quantized/__init__.py), one file per concept.

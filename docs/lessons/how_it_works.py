# %% [markdown]
# # How it works
#
# One photo goes through MobileNetV2, and every step is redone in a few lines of NumPy. You need to know arrays and
# matrix products, and nothing about neural networks. The numbers below a piece of code are what it prints; [the
# script](how_it_works.py) runs in a few seconds, without a network connection.
#
# ## The photo

# %%
from importlib import resources

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import npmnv2
from npmnv2.lab.quantization import dequantized

cat = Image.open(str(resources.files("npmnv2") / "data" / "cat.jpg")).convert("RGB")
model = dequantized(npmnv2.load(), backend="numpy")  # the classifier in the package, in float32
x = model.prepare([cat])

print(cat.size, "pixels become", x.shape, x.dtype, f"from {x.min():.2f} to {x.max():.2f}")

# %% [markdown]
# A network takes arrays of one shape: images × height × width × *channels*. A photo has three channels: red, green and
# blue. `prepare` cuts out the middle, resizes it, and maps 0…255 to −1…1. In the end the network gives one number for
# each of 1001 classes: 1000 kinds of things of the data set ImageNet, and one for "none of them".

# %%
print(model.predict(cat))

# %% [markdown]
# In between, the image becomes a different image, again and again: smaller, with more channels. Such an image is called
# a *map*, and what turns one map into the next a *layer*. A layer is a formula with *weights*: constants that were
# found once by training on more than a million photos. Here they are given.
#
# ## The first layer
#
# `Conv1` is a *convolution*. Each output pixel looks at a window of 3×3 input pixels, 27 numbers, and takes 32 weighted
# sums of them, one for each output channel. The weights of these sums are the *kernel*. It adds a constant to each sum
# (the *bias*), and cuts the result off below 0 and above 6. The cut is called *ReLU6*. Without it, two layers in a row
# would be one linear formula, and a hundred layers no better than one.

# %%
kernel, bias = model.weights["Conv1/kernel"], model.weights["Conv1/bias"]
print("kernel", kernel.shape, " bias", bias.shape)


def relu6(values):
    return np.clip(values, 0, 6)


row, column = 40, 60  # of the output
window = x[0, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]  # (3, 3, 3)
by_hand = relu6((window[..., None] * kernel).sum(axis=(0, 1, 2)) + bias)  # (32,)

maps = model.trace(x)  # what every layer gives for the photo, by name
print("by hand   ", by_hand[:6].round(4))
print("by npmnv2 ", maps["Conv1"][0, row, column, :6].round(4))

# %% [markdown]
# The window of output pixel (40, 60) starts at input pixel (80, 120). Windows move by two pixels: the *stride* is 2. So
# 224×224 pixels become 112×112. At the lower and right edges the windows reach one pixel beyond the image, where zeros
# are assumed. That detail ruins many copies of this network, and has [a lesson of its own](padding.md).
#
# Nobody chose what the 32 channels look for. Training found edges, colors and brightness (dark is small, bright is
# large, in each picture on its own scale):


# %%
def show(names, channels, description):
    """Draw some channels of some maps, a map in each row."""
    figure, axes = plt.subplots(
        len(names), len(channels), figsize=(9, 1.25 * len(names)), num=description, squeeze=False
    )
    for name, line in zip(names, axes):
        for channel, axis in zip(channels, line):
            axis.imshow(maps[name][0, :, :, channel], cmap="magma")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.removeprefix("block_2_") or name, fontsize=8)


lively = np.argsort(maps["Conv1"][0].std(axis=(0, 1)))[::-1]
show(["Conv1"], lively[:8], "Eight channels of the first layer: edges and bright areas of a cat's face")

# %% [markdown]
# ## The inverted residual
#
# Everything up to the last map is one idea, repeated seventeen times. The maps that travel from block to block are
# *narrow*: they have few channels. Inside a block they are made six times as wide, filtered, and made narrow again. In
# older networks it was the other way around, hence *inverted* (paper, section 3.3).
#
# ```
#    24 channels ──────────────────────────────────────────────┐
#         │ expand      1×1, ReLU6      24 → 144               │
#         │ depthwise   3×3, ReLU6     144 → 144               │  add, where input and
#         │ project     1×1, linear    144 → 24                │  output have one shape
#         ▼                                                    │
#    24 channels ◄─────────────────────────────────────────────┘
# ```
#
# This is `block_2`, in NumPy:


# %%
def weights(layer):
    return model.weights[f"{layer}/kernel"], model.weights[f"{layer}/bias"]


def pointwise(values, layer):
    """Each pixel's channels times a matrix."""
    kernel, bias = weights(layer)
    return values @ kernel[0, 0] + bias  # the kernel is 1 × 1 × channels in × channels out


def depthwise(values, layer):
    """Each channel has its own 3×3 weights, and sees no other channel."""
    kernel, bias = weights(layer)
    height, width, _ = values.shape
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    windows = (padded[a : a + height, b : b + width] * kernel[a, b, :, 0] for a in range(3) for b in range(3))
    return sum(windows) + bias


narrow = maps["block_1"][0]
wide = relu6(pointwise(narrow, "block_2_expand"))
filtered = relu6(depthwise(wide, "block_2_depthwise"))
out = narrow + pointwise(filtered, "block_2_project")

for name, values in [("narrow", narrow), ("wide", wide), ("filtered", filtered), ("out", out)]:
    print(f"{name:9} {values.shape}")
print("agrees with npmnv2:", np.allclose(out, maps["block_2"][0], atol=1e-4))

# %% [markdown]
# * **Expand** and **project** mix the channels of a pixel and never look at its neighbors. They are called *pointwise*.
# * **Depthwise** looks at neighbors and never mixes channels.
# * **Project has no ReLU6.** A narrow map has no channel to spare, so cutting values off would lose what the next block
#   needs (paper, section 3.2: *linear bottlenecks*).
# * **The sum** at the end is the *residual*: a block only computes a change of its input.

# %%
show(
    ["block_2_expand", "block_2_depthwise"],
    np.argsort(maps["block_2_depthwise"][0].std(axis=(0, 1)))[::-1][:8],
    "Eight of the 144 wide channels of block_2: above after the expansion, below after the 3×3 filter",
)

# %% [markdown]
# Why the detour? A plain 3×3 convolution, such as `Conv1`, mixes neighbors *and* channels, and has a weight for every
# pair of channels at each of nine places. The block splits that work:

# %%
multiplications = {
    "expand": 24 * 144,
    "depthwise": 9 * 144,
    "project": 144 * 24,
    "the block": 24 * 144 + 9 * 144 + 144 * 24,
    "plain 3×3, 144 channels": 9 * 144 * 144,
    "plain 3×3, 24 channels": 9 * 24 * 24,
}
for what, count in multiplications.items():
    print(f"{what:24} {count:8,} per pixel")

# %% [markdown]
# The wide map is where a block can tell many things apart, and a plain convolution there would cost 23 times as much.
# On the narrow map it would be cheaper than the block, but it would filter 24 channels instead of 144.
#
# In npmnv2 the block is data: [`InvertedResidual`](../../npmnv2/network/layers.py), whose `parts()` are the four steps
# of the drawing. What the steps compute is in [`kernels/pointwise.py`](../../kernels/pointwise.py) and
# [`kernels/depthwise.py`](../../kernels/depthwise.py).
#
# ## The network is a table of seven rows
#
# [`npmnv2/network/architecture.py`](../../npmnv2/network/architecture.py) holds table 2 of the paper. Each row is a few
# blocks; the first of them has the stride.

# %%
from npmnv2.network.architecture import STAGES

print("expand  channels  blocks  stride")
for stage in STAGES:
    print(f"{'×6' if stage.expand else '–':>6} {stage.channels:9} {stage.repeats:7} {stage.stride:7}")

# %% [markdown]
# `Conv1` comes before the table. After it come a pointwise convolution to 1280 channels, the mean over all pixels, and
# a matrix. The table and a configuration give a *plan*, a tuple of named nodes. Its summary says what each node costs
# (a multiplication and the addition to a sum count as one *multiply-add*):

# %%
print(model.summary())

# %% [markdown]
# A node's name is its name in Keras, and the first half of its weights' names. So loading weights is comparing two
# sets, and comparing two networks is comparing two dictionaries such as `maps`.

# %%
names = [node.name for node in model.plan.nodes[:-2]]  # all but the mean and the matrix
figure, (side, depth) = plt.subplots(
    1, 2, figsize=(9, 2.6), num="From layer to layer the maps become smaller, and their channels more"
)
side.bar(names, [maps[name].shape[1] for name in names], color="teal")
side.set_title("pixels per side", fontsize=9)
depth.bar(names, [maps[name].shape[3] for name in names], color="teal")
depth.set_title("channels", fontsize=9)
for axis in (side, depth):
    axis.tick_params(axis="x", rotation=90, labelsize=7)
    axis.tick_params(axis="y", labelsize=7)

# %% [markdown]
# ## The head
#
# The last map has 7×7 pixels and 1280 channels. Its mean over the pixels is one list of 1280 numbers: the *features* of
# the photo (`model.features`). A matrix turns them into one number for each class, the *logits*, and `softmax` turns
# those into shares of 100 %.

# %%
last = maps["Conv_1"][0]
features = last.mean(axis=(0, 1))
matrix, bias = weights("predictions")
logits = features @ matrix + bias
shares = np.exp(logits - logits.max())
shares /= shares.sum()
for index in shares.argsort()[::-1][:3]:
    print(f"{shares[index]:6.1%}  {index}  {model.labels[index]}")

# %% [markdown]
# The mean and the matrix are both linear, so they can trade places: first the matrix at each pixel, then the mean. The
# first half of that is a picture of *where* the class is seen, a *class activation map*. It is exact: its mean is the
# logit.

# %%
best = int(np.argmax(shares))
seen = last @ matrix[:, best] + bias[best]  # (7, 7)
print(f"mean of the map {seen.mean():.4f}, logit {logits[best]:.4f}")

figure, (left, right) = plt.subplots(
    1, 2, figsize=(6, 3), num="What the network takes in, and where it sees an Egyptian cat"
)
image = (x[0] - x.min()) / (x.max() - x.min())
left.imshow(image)
right.imshow(image)
right.imshow(np.asarray(Image.fromarray(seen).resize((224, 224), Image.Resampling.BICUBIC)), cmap="inferno", alpha=0.55)
for axis in (left, right):
    axis.set_axis_off()

# %% [markdown]
# ## Four details
#
# **Widths.** `depth_multiplier` makes all layers narrower or wider. Each width is then rounded to a multiple of 8, but
# never down by more than a tenth. TensorFlow, Keras and transformers round differently before that. All give the same
# widths for the six published multipliers; for others, `width_rule` chooses whose rule to follow. It also decides about
# the first block, whose input and output are equally wide at multipliers below 0.28: there TensorFlow and Keras add the
# two, and transformers does not.

# %%
from npmnv2 import MobileNetV2Config

for multiplier in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4):
    config = MobileNetV2Config(depth_multiplier=multiplier)
    print(f"{multiplier:4}", *(f"{config.width(stage.channels):4}" for stage in STAGES))

# %% [markdown]
# **Batch norms.** In training, every convolution is followed by a *batch norm*, which shifts and scales each channel by
# statistics of the data: `γ · (y − μ) / √(σ² + ε) + β`. Afterwards these are constants, and both steps can move into
# the convolution. That is called *folding*, and it is exact up to rounding. npmnv2 does it once, when it loads weights,
# in double precision ([`fold_batch_norms`](../../npmnv2/weights/checkpoint.py)).

# %%
rng = np.random.default_rng(0)
pixel, matrix = rng.normal(size=24), rng.normal(size=(24, 144))
gamma, beta, mean, variance, epsilon = *rng.normal(size=(3, 144)), rng.uniform(0.5, 2, 144), 1e-3

unfolded = gamma * (pixel @ matrix - mean) / np.sqrt(variance + epsilon) + beta
factor = gamma / np.sqrt(variance + epsilon)
folded = pixel @ (matrix * factor) + (beta - mean * factor)
print(f"largest difference {np.abs(unfolded - folded).max():.0e}, largest value {np.abs(unfolded).max():.0f}")

# %% [markdown]
# **Padding.** Where a window reaches beyond the image, zeros are assumed. On which side, and how many, is [the next
# lesson](padding.md).
#
# **Speed.** The NumPy backend is a loop over the nodes, and the definition of what is right. The compiled backend runs
# the same plan as one program, with every inverted residual fused, so that the wide maps never reach memory
# ([Kernels](../../kernels/README.md) draws how). Both compute only what you ask for:

# %%
found = model.features(cat, endpoints=["block_3", "layer_15/expansion_output"])  # Keras's or slim's names
print({name: values.shape for name, values in found.items()})

# %% [markdown]
# Values are those after folding: `block_3_expand` is the map after batch norm and ReLU6, as Keras's
# `block_3_expand_relu` is.
#
# Next: [How padding breaks ports](padding.md), [How eight bits work](eight_bits.md), and
# [Architecture](../architecture.md), which draws the code as a whole.

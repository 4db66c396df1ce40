# %% [markdown]
# # How padding breaks ports
#
# A network is written again in a different framework. It loads the same weights and names most photos right, and yet
# nearly every number is wrong. Very often the reason is one column of zeros on the wrong side. This lesson shows where
# it comes from, what it does, why tests miss it, and how to find it. It needs NumPy and [the words of the first
# lesson](how_it_works.md): window, stride, channel.
#
# ## Where the zeros go
#
# A window of three pixels moves along a row of six in steps of two (stride 2). Three outputs are wanted, half as many
# as inputs. The last window reaches one pixel beyond the end, and a zero is put there. That is TensorFlow's rule: as
# many zeros as are needed, half of them on each side, *the odd one at the end*.

# %%
import matplotlib.pyplot as plt
import numpy as np


def tensorflow(size, window=3, stride=2):
    """Zeros before and after."""
    outputs = -(-size // stride)  # rounded up
    total = max((outputs - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def pytorch(size, window=3, stride=2):
    """What `padding=1` means."""
    return window // 2, window // 2


def windows(letters, rule):
    before, after = rule(len(letters))
    padded = "0" * before + letters + "0" * after
    return [padded[start : start + 3] for start in range(0, len(padded) - 2, 2)]


for letters in ("abcdef", "abcdefg"):
    print(f"{letters:8} TensorFlow", windows(letters, tensorflow), " PyTorch", windows(letters, pytorch))

# %% [markdown]
# PyTorch puts a zero on both sides, always. With six pixels both rules give three windows, but *different* ones:
# shifted by a pixel. With seven pixels the windows are the same. So the shape of the output never tells, and an odd
# size hides the fault.
#
# ## What it does to a map
#
# The first layer of MobileNetV2 has such windows. Here it runs on a photo with both paddings, all else equal.

# %%
from dataclasses import replace
from importlib import resources

from PIL import Image

import npmnv2
from npmnv2.lab.quantization import dequantized

right = dequantized(npmnv2.load(), backend="numpy")
port = right.to_checkpoint()
port = type(right).from_checkpoint(
    replace(port, config=right.config.replace(tf_padding=False)), processor=right.processor, backend="numpy"
)

cat = Image.open(str(resources.files("npmnv2") / "data" / "cat.jpg")).convert("RGB")


def pixels(size):
    """The cat at some size, as the network takes it."""
    return (np.asarray(cat.resize((size, size)), np.float32) / 128 - 1)[None]


x = pixels(224)
a, b = (model.trace(x) for model in (right, port))
difference = np.abs(a["Conv1"] - b["Conv1"])
print("shapes    ", a["Conv1"].shape, b["Conv1"].shape)
print(f"values     up to {a['Conv1'].max():.1f}")
print(f"difference up to {difference.max():.1f}, {np.mean(difference > 1e-3):.0%} of all values differ")

# %% [markdown]
# The windows of the port begin one pixel further up and further left. So it is as if the photo had been moved. If it is
# moved back, the numbers agree, everywhere but at the edge:

# %%
moved = np.roll(x, (-1, -1), axis=(1, 2))
inside = (slice(None), slice(1, -1), slice(1, -1))
again = port.trace(moved)["Conv1"]
print("equal inside:", np.allclose(a["Conv1"][inside], again[inside], atol=1e-5))

channel = int(a["Conv1"][0].std(axis=(0, 1)).argmax())
figure, axes = plt.subplots(
    1, 3, figsize=(9, 3), num="One channel of the first layer: TensorFlow's padding, PyTorch's, and the difference"
)
drawn = {
    "TensorFlow": a["Conv1"][0, :, :, channel],
    "PyTorch": b["Conv1"][0, :, :, channel],
    "difference": difference[0, :, :, channel],
}
for axis, (title, values) in zip(axes, drawn.items()):
    axis.imshow(values, cmap="magma", vmin=0, vmax=6)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()

# %% [markdown]
# The two maps look alike: the same cat. That is why the network still works. But each of the five layers with stride 2
# shifts again, by a pixel of *its* input. For the last of them, that is 16 pixels of the photo.

# %%
names = [node.name for node in right.plan.nodes]
errors = [np.linalg.norm(a[name] - b[name]) / np.linalg.norm(a[name]) for name in names]
halving = ["Conv1", "block_1", "block_3", "block_6", "block_13"]
figure, axis = plt.subplots(
    figsize=(9, 2.6), num="How far each layer is off, as a share of its values; stride 2 in red"
)
axis.bar(names, errors, color=["firebrick" if name in halving else "teal" for name in names])
axis.tick_params(axis="x", rotation=90, labelsize=7)
axis.tick_params(axis="y", labelsize=7)
axis.yaxis.set_major_formatter("{x:.0%}")

# %% [markdown]
# From the second layer on, the errors are as large as the values. Pixel by pixel, the two networks have next to nothing
# in common. Only the mean over all pixels at the end makes them alike again, since a mean does not care where things
# are.
#
# ## Why tests miss it
#
# The class is often still right, and with some sizes *everything* is right:

# %%
print("side   inputs of the layers with stride 2   logits differ by   best class: TensorFlow, PyTorch")
for side in (128, 129, 192, 193, 224, 225):
    inputs = [side]
    while len(inputs) < 5:
        inputs.append(-(-inputs[-1] // 2))
    ours, theirs = (model.run(pixels(side), ["predictions"])["predictions"][0] for model in (right, port))
    share = "nothing" if np.array_equal(ours, theirs) else f"{np.abs(ours - theirs).max() / np.abs(ours).max():.1%}"
    classes = [right.labels[int(logits.argmax())].split(",")[0] for logits in (ours, theirs)]
    print(f"{side:4}   {'  '.join(f'{n:3}' for n in inputs):34}   {share:>16}   {', '.join(classes)}")

# %% [markdown]
# If all five sizes are odd, nothing differs, not a bit. One more than a multiple of 32 is of that kind: 129, 193, 225,
# and the 513 of DeepLab. Multiples of 32 are the other kind: all five sizes are even, and every number is off. A test
# on 225×225 pixels finds nothing, and neither does one that only looks at the class of a photo.
#
# ## How to find it
#
# Compare every layer with a reference, and look at the *first* that differs. A wrong padding shows at the first layer
# with stride 2 and an even input. To be sure, give that layer the right input, pad as the other rule says, and see
# whether the difference is gone. `compare` does this for each layer, with this and other known faults:

# %%
found = npmnv2.compare(right, port, pixels(96))  # a small photo, so that it takes a second
print("first layer that differs:", found.first_divergent.name)
for finding in found.findings:
    down, across = (int(finding.evidence[way]) for way in ("down", "across"))
    print(f"{finding.layer}: {finding.fault}, {down} down and {across} across")

# %% [markdown]
# The port may as well be a live PyTorch or Keras model, a TFLite or ONNX file, or an `.npz` of values that a chip has
# dumped: [Porting](../porting.md).
#
# ## How to mend it
#
# | in | write |
# |---|---|
# | PyTorch | `F.pad(x, (0, 1, 0, 1))` for even sides, `(1, 1, 1, 1)` for odd ones, and `padding=0` |
# | transformers | `MobileNetV2Config(tf_padding=True)`, the default |
# | Keras | `padding="same"`, or `ZeroPadding2D(((0, 1), (0, 1)))` before `padding="valid"`, for even sides |
# | ONNX | `auto_pad="SAME_UPPER"`; with numbers, `pads=[0, 0, 1, 1]` for even sides |
# | npmnv2 | `tf_padding=True`, the default. It is computed from each image's own height and width |
#
# Weights that were *trained* with symmetric padding, such as torchvision's, need that one: `tf_padding=False`. npmnv2
# chooses by the weight file. Padding belongs to the weights as much as the number of channels does.
#
# Three relatives of this fault:
#
# * **Height and width differ.** One side may be even and the other odd. Each axis has its own zeros.
# * **Padding before scaling.** The zeros belong around what the network takes, where 0 is a medium gray. Zeros around
#   the photo's bytes are black, which is −1.
# * **Integers.** In a quantized network the zeros are the *zero point*, the integer that stands for 0 ([How eight bits
#   work](eight_bits.md)).

# %%
from npmnv2.kernels import same_padding

print("height 224:", same_padding(224, 3, 2), " width 225:", same_padding(225, 3, 2))
assert all(same_padding(size, 3, 2) == tensorflow(size) for size in range(1, 600))

# %% [markdown]
# [`kernels/padding.py`](../../kernels/padding.py) has the one implementation of the rule in npmnv2. It is the function
# from the beginning of this page, with one more argument for dilated windows, whose taps lie apart
# ([Segmentation](../segmentation.md) needs them).

"""Conversion between file formats, and between 1001 and 1000 classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from npmnv2.errors import ArgumentError, WeightsError
from npmnv2.labels import BACKGROUND
from npmnv2.network.architecture import CLASSIFIER
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import write_h5
from npmnv2.weights.readers import read_checkpoint as read

from . import keras, npz, onnx_writer, tflite_writer, transformers
from .dequantize import dequantized

WRITERS: dict[str, Callable[[Checkpoint, Path], None]] = {
    "native": write_h5,
    "keras": keras.write,
    "transformers": transformers.write,
    "npz": npz.write,
    "tflite": tflite_writer.write,
    "onnx": onnx_writer.write,
}
_SUFFIXES = {".h5": "native", ".hdf5": "native", ".npz": "npz", ".tflite": "tflite", ".onnx": "onnx"}
_INTEGER_FORMATS = ("native", "tflite")
# What the name of a file of each format may end in; names without a known file type are the caller's business.
_ENDINGS = {
    "native": (".h5", ".hdf5"),
    "keras": (".h5", ".hdf5"),
    "npz": (".npz",),
    "tflite": (".tflite",),
    "onnx": (".onnx",),
    "transformers": (),
}
_FILE_TYPES = (*_SUFFIXES, ".keras", ".pb", ".safetensors", ".ckpt", ".pt", ".pth", ".bin")
IMAGENET_CLASSES = 1000
# The logit of a background class that nobody trained: its probability is 0 in float32, and it fits into a
# float16.
_NEVER = -1e4


def convert(
    src: str | Path,
    dst: str | Path,
    to: str | None = None,
    labels: Sequence[str] | None = None,
    num_classes: int | None = None,
    dequantize: bool = False,
) -> Checkpoint:
    """Read weights and write them in a different format.

    Parameters
    ----------
    src, dst : str or Path
        In any of the formats that are read; in one of those that are written.
    to : {"native", "keras", "transformers", "npz", "tflite", "onnx"}, optional
        By default what the suffix of `dst` means: ``.h5`` native, ``.npz`` npz, ``.tflite`` tflite, ``.onnx`` onnx,
        none a directory for transformers.
    labels : sequence of str, optional
        One per class, in place of those that `src` states.
    num_classes : {1000, 1001}, optional
        Drop or add ImageNet's background class (see `with_classes`). `labels` are those of the result.
    dequantize : bool
        Write the float network that a quantized one stands for (see `dequantized`), which every format holds.

    Returns
    -------
    Checkpoint
        What was written.

    Raises
    ------
    FileNotFoundError, WeightsError
        If `src` cannot be read, or `dst`'s format cannot hold it.
    ValueError
        If `to`, `labels`, `num_classes` or `dequantize` do not fit.
    """
    dst = Path(dst)
    to = target_format(dst, to)
    checkpoint = read(src)
    if dequantize:
        checkpoint = dequantized(checkpoint)
    _check_holds(to, checkpoint)
    checkpoint = with_classes(checkpoint, num_classes)
    if labels is not None:
        checkpoint = with_labels(checkpoint, labels)
    write(checkpoint, dst, to)
    return checkpoint


def write(checkpoint: Checkpoint, dst: str | Path, to: str | None = None) -> None:
    """Write a checkpoint in one of the formats of `convert`.

    Raises
    ------
    WeightsError
        If the format cannot hold it.
    ArgumentError
        If `dst` and `to` do not say a format.
    """
    to = target_format(dst, to)
    _check_holds(to, checkpoint)
    WRITERS[to](checkpoint, Path(dst))


def _check_holds(to: str, checkpoint: Checkpoint) -> None:
    if checkpoint.quantization is not None and to not in _INTEGER_FORMATS:
        raise WeightsError(
            f"format (={to!r}) must be {' or '.join(_INTEGER_FORMATS)} for a quantized network; "
            "others hold the real numbers that it stands for (dequantize=True, or --dequantize)"
        )


def target_format(dst: str | Path, to: str | None = None) -> str:
    """The format in which `dst` is to be written: `to`, or what its name says.

    Raises
    ------
    ArgumentError
        If neither says a format, or they disagree.
    """
    dst = Path(dst)
    suffix = dst.suffix.lower()
    if to is None:
        # Directories are called mobilenet_v2_1.0_224, whose suffix is not a file type.
        to = _SUFFIXES.get(suffix, None if suffix[1:].isalpha() else "transformers")
    if to is None:
        raise ArgumentError(
            f"dst (={str(dst)!r}) must end in {', '.join(_SUFFIXES)} or be a directory, or `to` must say the format"
        )
    if to not in WRITERS:
        raise ArgumentError(f"to (={to!r}) must be one of {', '.join(WRITERS)}")
    if suffix in _FILE_TYPES and suffix not in _ENDINGS[to]:
        what = f"end in {' or '.join(_ENDINGS[to])}" if _ENDINGS[to] else "be a directory"
        raise ArgumentError(
            f"dst (={str(dst)!r}) must {what} for the format {to}, or it would hold what its name does not say"
        )
    return to


def with_classes(checkpoint: Checkpoint, num_classes: int | None) -> Checkpoint:
    """ImageNet's 1000 classes from the 1001 of TensorFlow's checkpoints, or the reverse.

    TF-slim's models count the background as class 0, Keras's and torchvision's do not have it. Dropping it
    drops the first column of the classifier; adding it adds a column of zeros with a bias of −10000, so that
    the background's probability is 0 and those of all other classes are as they were.

    Raises
    ------
    ValueError
        If the model has any other number of classes.
    """
    config = checkpoint.config
    if num_classes is None or config is None or num_classes == config.classes:
        return checkpoint
    if {num_classes, config.classes} != {IMAGENET_CLASSES, IMAGENET_CLASSES + 1} or checkpoint.task != "classification":
        raise ArgumentError(
            f"num_classes (={num_classes}) must turn 1001 classes into 1000 or 1000 into 1001, "
            f"got a model for {checkpoint.task} with {config.classes}"
        )
    if checkpoint.quantization is not None:
        raise ArgumentError(f"num_classes (={num_classes}) must be left out for a quantized model that stays one")
    adds = num_classes > config.classes
    weights = dict(checkpoint.weights)
    for name, fill in ((f"{CLASSIFIER}/kernel", 0.0), (f"{CLASSIFIER}/bias", _NEVER)):
        values = weights[name]
        first = np.full((*values.shape[:-1], 1), fill, values.dtype)
        weights[name] = np.ascontiguousarray(np.concatenate([first, values], -1) if adds else values[..., 1:])
    labels = checkpoint.labels
    if labels is not None:
        labels = (BACKGROUND, *labels) if adds else labels[1:]
    changed = replace(checkpoint, weights=weights, config=config.replace(num_labels=num_classes), labels=labels)
    return changed if labels is None else with_labels(changed, labels)


def with_labels(checkpoint: Checkpoint, labels: Sequence[str]) -> Checkpoint:
    """The checkpoint with new names for its classes; a detector's background may be left out.

    Raises
    ------
    ValueError
        If there is not exactly one name per class.
    """
    config, given = checkpoint.config, len(labels)
    if config is not None and checkpoint.task == "detection" and config.ssd.background:
        labels = labels if len(labels) == config.classes else (BACKGROUND, *labels)
    if config is None or len(labels) != config.classes:
        classes = config.classes if config else 0
        raise ArgumentError(f"labels must name each of the model's {classes} classes, got {given} names")
    return replace(checkpoint, labels=tuple(labels), config=config.replace(id2label=dict(enumerate(labels))))

"""One image, a list or an iterator in; results in the same form out, computed in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.kernels import Array

Context = TypeVar("Context")
Values = TypeVar("Values")
Result = TypeVar("Result")


def map_images(
    images: Any,
    prepare: Callable[[Any], tuple[Array, Context]],
    run: Callable[[Array], Values],
    finish: Callable[[Values, int, Context], Result],
    batch_size: int,
) -> Any:
    """Apply a network to images.

    Parameters
    ----------
    images
        One image, an iterable of them, or an iterator.
    prepare
        From an image to the network's input (1, H, W, C) and what `finish` needs to know of the image.
    run
        From a batch of inputs (N, H, W, C) to the network's values.
    finish
        From the values, a position in the batch and what `prepare` told, to a result.
    batch_size : int
        How many images are prepared ahead and, where they have one size, run at once.

    Returns
    -------
    Result, list of Result or iterator of Result
        As `images` came.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"batch_size (={batch_size!r}) must be an integer of at least 1")
    if _is_one_image(images):
        return next(_stream(iter([images]), prepare, run, finish, 1))
    if isinstance(images, Iterator):
        return _stream(images, prepare, run, finish, batch_size)
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise ArgumentTypeError(f"images must be an image, a path or a list of them, got {type(images).__name__}")
    return list(_stream(iter(images), prepare, run, finish, batch_size))


def _stream(
    images: Iterator[Any],
    prepare: Callable[[Any], tuple[Array, Context]],
    run: Callable[[Array], Values],
    finish: Callable[[Values, int, Context], Result],
    batch_size: int,
) -> Iterator[Result]:
    while batch := list(islice(images, batch_size)):
        prepared = [prepare(image) for image in batch]
        # Without a resize inputs may differ in size; neighbors of one size go together.
        for _, group in groupby(prepared, key=lambda pair: pair[0].shape):
            members = list(group)
            x = np.concatenate([array for array, _ in members]) if len(members) > 1 else members[0][0]
            values = run(x)
            for at, (_, context) in enumerate(members):
                yield finish(values, at, context)


def _is_one_image(images: Any) -> bool:
    """Whether `images` is one image, not several: a path, bytes, a file, a PIL image, or an (H, W[, C]) array."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    return isinstance(images, (str, bytes, Path)) or hasattr(images, "getbands") or hasattr(images, "read")

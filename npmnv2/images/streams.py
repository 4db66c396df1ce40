"""One image, a list or an iterator in; results in the same form out, computed in batches."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError, Npmnv2Error
from npmnv2.images.loading import is_array, is_column
from npmnv2.kernels import Array

Item = TypeVar("Item")
Context = TypeVar("Context")
Values = TypeVar("Values")
Result = TypeVar("Result")
Prepared = tuple[Array, Context]

OnError = Literal["raise", "skip", "return"]

# What an image can cause. Anything else is a bug, and no setting hides it.
IMAGE_ERRORS = (Npmnv2Error, OSError)


def map_images(
    images: Any,
    prepare: Callable[[Any], Prepared[Context]],
    run: Callable[[Array], Values],
    finish: Callable[[Values, int, Context], Result],
    batch_size: int,
    errors: OnError = "raise",
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
    errors : {"raise", "skip", "return"}
        What becomes of an image that cannot be used: its exception is raised after the results of all images before
        it, or it is left out with a warning in the log ``npmnv2``, or its exception takes the result's place.

    Returns
    -------
    Result, list of Result or iterator of Result
        As `images` came.
    """
    check_count("batch_size", batch_size)
    if errors not in get_args(OnError):
        raise ArgumentError(f"errors (={errors!r}) must be one of {', '.join(get_args(OnError))}")
    if is_one_image(images):
        if errors != "raise":
            raise ArgumentError(f"errors (={errors!r}) is for several images; put the one into a list")
        return next(_checked(_stream(iter([images]), prepare, run, finish, 1), errors))
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise ArgumentTypeError(f"images must be an image, a path or a list of them, got {type(images).__name__}")
    results = _checked(_stream(iter(images), prepare, run, finish, batch_size), errors)
    return results if isinstance(images, Iterator) else list(results)


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int) -> Iterator[Result]:
    """Results of `function` in the order of `items`, computed by threads while the caller uses earlier ones.

    Parameters
    ----------
    function
        Its exception is raised in the result's place.
    items
    threads : int
    ahead : int
        Items that are taken before their results are asked for; this bounds the memory.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def check_count(name: str, value: Any) -> int:
    """Return `value` as an int; raise an ArgumentError unless it is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ArgumentError(f"{name} (={value!r}) must be an integer of at least 1")
    return int(value)


def _checked(results: Iterator[Result | Exception], errors: OnError) -> Iterator[Result | Exception]:
    """The results with what `errors` makes of the exceptions among them."""
    for result in results:
        if not isinstance(result, Exception) or errors == "return":
            yield result
        elif errors == "raise":
            raise result
        else:
            import logging

            logging.getLogger("npmnv2").warning("an image was skipped: %s", result)


def _stream(
    images: Iterator[Any],
    prepare: Callable[[Any], Prepared[Context]],
    run: Callable[[Array], Values],
    finish: Callable[[Values, int, Context], Result],
    batch_size: int,
) -> Iterator[Result | Exception]:
    """Results in order; an image that cannot be used gives its exception instead."""
    while batch := list(islice(images, batch_size)):
        prepared = [_attempt(prepare, image) for image in batch]
        # Without a resize inputs may differ in size; neighbors of one size go together.
        for _, group in groupby(prepared, key=lambda one: None if isinstance(one, Exception) else one[0].shape):
            yield from _together(list(group), run, finish)


def _together(
    members: list[Prepared[Context] | Exception],
    run: Callable[[Array], Values],
    finish: Callable[[Values, int, Context], Result],
) -> Iterator[Result | Exception]:
    """Run what was prepared to one size as one batch; exceptions pass through."""
    inputs = [one for one in members if not isinstance(one, Exception)]
    if not inputs:
        yield from (one for one in members if isinstance(one, Exception))
        return
    values = _attempt(run, np.concatenate([x for x, _ in inputs]) if len(inputs) > 1 else inputs[0][0])
    for index, (_, context) in enumerate(inputs):
        yield values if isinstance(values, Exception) else finish(values, index, context)


def _attempt(function: Callable[[Any], Result], argument: Any) -> Result | Exception:
    try:
        return function(argument)
    except IMAGE_ERRORS as error:
        return error


def is_one_image(images: Any) -> bool:
    """Whether `images` is one image, not several: a path, bytes, a file, a PIL image, or an (H, W[, C]) array."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(images, "getbands"):
        return True
    if is_array(images):
        return np.ndim(images) != 4 and not is_column(images)
    return hasattr(images, "read")

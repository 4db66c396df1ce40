"""Features of many photos: decoded and resized by threads while the network runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from npmnv2.images.streams import IMAGE_ERRORS, map_ahead, map_images
from npmnv2.kernels import Array, global_average_pool
from npmnv2.models.base import MobileNetV2PreTrainedModel, Transform

# Inputs that wait for the network, in batches: at 224×224 pixels one takes 0.6 MB.
_BATCHES_AHEAD = 4


def embeddings(
    model: MobileNetV2PreTrainedModel,
    images: Iterable[Any],
    endpoint: str | None = None,
    transform: Transform | None = None,
    batch_size: int = 8,
) -> Iterator[Array | Exception]:
    """The vector of every image in order, with the bits of ``model.features``; of a bad image its exception.

    Parameters
    ----------
    model : MobileNetV2PreTrainedModel
    images : iterable
        Paths, arrays, Pillow images, as `features` takes one.
    endpoint : str, optional
        Whose values; a map is averaged over its pixels. The pooled features if not given.
    transform : preset or MobileNetV2ImageProcessor, optional
        How images are prepared; as the model does if not given.
    batch_size : int
        How many images run at once.

    Yields
    ------
    Array [shape=(C,)] or Exception
    """
    name = endpoint or model.embedding
    _ = model.executable  # built once, and not by several threads

    def prepare(image: Any) -> Array | Exception:
        try:
            return model.prepare([image], transform)
        except IMAGE_ERRORS as error:
            return error

    def run(x: Array) -> Array:
        values = model.run(x, [name])[name]
        return values if values.ndim == 2 else global_average_pool(values)

    threads = model.n_threads or 1
    inputs = map_ahead(prepare, images, threads, threads + _BATCHES_AHEAD * batch_size)
    found: Iterator[Array | Exception] = map_images(
        inputs, _usable, run, lambda values, at, _: values[at], batch_size, "return"
    )
    return found


def _usable(prepared: Array | Exception) -> tuple[Array, None]:
    if isinstance(prepared, Exception):
        raise prepared
    return prepared, None

"""What is asked of a model for every photo, and the rows that this gives."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.loading import load
from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.scale.photos import Reader, is_about_the_photo
from npmnv2.scale.table import ERROR, FEATURES, parquet, row, schema


class Execution(NamedTuple):
    """How a worker computes; nothing here changes a row.

    Attributes
    ----------
    backend : str
    n_threads : int or None
        Threads of one task.
    """

    backend: str = "auto"
    n_threads: int | None = 1


class Job:
    """A model and what is asked of it.

    Parameters
    ----------
    model : MobileNetV2PreTrainedModel
    features : bool
        Embed photos; otherwise `predict` them.
    masks : bool
        Add masks as PNG files to the rows, of a segmentation model.
    options
        Arguments of the model's `predict` or `features`.
    """

    def __init__(
        self, model: MobileNetV2PreTrainedModel, features: bool = False, masks: bool = False, **options: Any
    ) -> None:
        if not isinstance(model, MobileNetV2PreTrainedModel):
            raise ArgumentTypeError(f"model must be one that npmnv2.load returns, got {type(model).__name__}")
        self.model = model
        self.task = FEATURES if features else model.task
        if not features and model.task == FEATURES:
            raise ArgumentError("the model has no head to predict with: ask for features")
        if masks and self.task != "segmentation":
            raise ArgumentError(f"masks must be left out: this is about {self.task}, not segmentation")
        self.masks = masks
        self.options = options
        self.columns = schema(self.task, masks)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], weights: bytes, execution: Execution) -> Job:
        """The job that a manifest describes."""
        handle, path = tempfile.mkstemp(suffix=".h5")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(weights)
            stated = {"dtype": settings["dtype"], "arithmetic": settings["arithmetic"]}
            model = load(path, **stated, **execution._asdict())
        finally:
            os.unlink(path)
        return cls(model, settings["task"] == FEATURES, settings["masks"], **settings["options"])

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """One row for each photo, in order.

        Raises
        ------
        OSError
            If photos cannot be read now, but may be later.
        """
        for name, result in zip(names, self._results(Reader().photos(names)), strict=True):
            if isinstance(result, OSError) and not is_about_the_photo(result):
                raise result
            yield row(name, result, self.masks)

    def part(self, names: Sequence[str]) -> tuple[bytes, int]:
        """The Parquet file of some photos, and how many of them have no result."""
        rows = list(self.rows(names))
        return parquet(rows, self.columns), sum(ERROR in one for one in rows)

    def fingerprint(self) -> str:
        """Digest of what the package's photo of a cat gives: of the network's values, and of the bytes of the table."""
        cat = resources.files("npmnv2").joinpath("data/cat.jpg").read_bytes()
        raw = self.model.run(self.model.prepare([cat]), [self.model.plan.nodes[-1].name])
        (result,) = self._results([cat])
        found = hashlib.sha256(parquet([row("cat", result, self.masks)], self.columns))
        for values in raw.values():
            found.update(np.ascontiguousarray(values).data)
        # NumPy's exponential, of which scores are made, depends on the processor.
        found.update(np.exp(np.linspace(-20, 0, 1001, dtype=np.float32)).data)
        return found.hexdigest()

    def _results(self, photos: Any) -> Any:
        function = self.model.features if self.task == FEATURES else self.model.predict  # type: ignore[attr-defined]
        return function(iter(photos), errors="return", **self.options)


def versions() -> dict[str, str]:
    """Versions of what rows and their bytes depend on."""
    import PIL
    from PIL import features

    import npmnv2
    from npmnv2.scale.table import pyarrow

    supported: list[str] = features.get_supported()  # asking for others is a warning
    codecs = {name: str(features.version(name)) for name in sorted({"jpg", "webp", "avif"}.intersection(supported))}
    packages = {"npmnv2": npmnv2.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    return {**packages, "pyarrow": pyarrow().__version__, **codecs}

"""`MobileNetV2Features`: the network as a step of scikit-learn's pipelines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError
from npmnv2.hub import PACKAGED
from npmnv2.images.streams import check_count, is_one_image
from npmnv2.kernels import Array
from npmnv2.learn.embedding import embeddings
from npmnv2.learn.logistic import require_sklearn
from npmnv2.loading import load
from npmnv2.models.base import MobileNetV2PreTrainedModel, Transform

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
except ImportError:
    # The name exists without scikit-learn, for `from npmnv2 import *` and for documentation; the constructor says what
    # is missing.
    class BaseEstimator:  # type: ignore[no-redef]
        """Stands for scikit-learn's."""

    class ClassNamePrefixFeaturesOutMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's."""

    class TransformerMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's."""


class MobileNetV2Features(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Features of photos, as a transformer of scikit-learn.

    Parameters
    ----------
    model : str, path or model
        A name, a file or a loaded model. A name or a file is loaded at the first use in every process, so a pickle is
        small.
    endpoint : str, optional
        Whose values: any endpoint of the model, such as ``"block_13_expand"``. Maps are averaged over their pixels, so
        every endpoint gives one number for each of its channels. The pooled features if not given: 1280 numbers at
        multipliers up to 1.
    processor : {"hf", "slim", "keras", "raw", "deeplab", "ssd"} or MobileNetV2ImageProcessor, optional
        How photos are prepared; as the model does if not given.
    batch_size : int
        How many images run at once. Results do not depend on it.
    backend : {"auto", "compiled", "numba", "numpy"}
    n_threads : int, optional
        Of a model that is loaded.

    Examples
    --------
    >>> pipeline = make_pipeline(MobileNetV2Features(), LogisticRegression())    # doctest: +SKIP
    >>> pipeline.fit(paths, labels).predict(["cat.jpg"])                         # doctest: +SKIP

    Notes
    -----
    `fit` learns nothing: it loads the model and checks the parameters. `transform` may be called without it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | MobileNetV2PreTrainedModel = PACKAGED,
        *,
        endpoint: str | None = None,
        processor: Transform | None = None,
        batch_size: int = 8,
        backend: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        require_sklearn("MobileNetV2Features")
        self.model = model
        self.endpoint = endpoint
        self.processor = processor
        self.batch_size = batch_size
        self.backend = backend
        self.n_threads = n_threads

    def fit(self, X: Any = None, y: Any = None) -> MobileNetV2Features:
        """Load the model and check the parameters; photos and classes are not looked at.

        Raises
        ------
        ArgumentError
            If there is no such endpoint, or another parameter is impossible.
        """
        check_count("batch_size", self.batch_size)
        _ = self._n_features_out
        return self

    def transform(self, X: Any) -> Array:
        """Features of photos.

        Parameters
        ----------
        X : list of images, or array
            Paths, arrays (H, W, 3), Pillow images; an array (N, H, W, 3); a column of paths, as data frames have.

        Returns
        -------
        Array [shape=(N, C)]
            float32, with the bits of ``model.features``.

        Raises
        ------
        FileNotFoundError, ImageError
            If an image is missing or unusable; the message names it.
        """
        rows = []
        options: dict[str, Any] = {
            "endpoint": self.endpoint,
            "transform": self.processor,
            "batch_size": self.batch_size,
        }
        for vector in embeddings(self._loaded(), _images(X), **options):
            if isinstance(vector, Exception):
                raise vector
            rows.append(vector)
        return np.array(rows, np.float32).reshape(len(rows), self._n_features_out)

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn counts the names of columns by."""
        model = self._loaded()
        size = model.config.image_size
        return int(model.plan.shapes(size, size)[model.plan.resolve(self.endpoint or model.embedding)][-1])

    def _loaded(self) -> MobileNetV2PreTrainedModel:
        """The model; parameters may have changed since it was loaded."""
        if isinstance(self.model, MobileNetV2PreTrainedModel):
            return self.model
        wanted = self.model, self.backend, self.n_threads
        if getattr(self, "_cached", (None, None))[0] != wanted:
            options: dict[str, Any] = {"backend": self.backend, "n_threads": self.n_threads}
            self._cached = wanted, load(self.model, **options)
        model: MobileNetV2PreTrainedModel = self._cached[1]
        return model

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        state.pop("_cached", None)
        return state

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _images(X: Any) -> Iterable[Any]:
    """The images, one by one; a data frame's or an array's column of paths is a list."""
    X = X.to_numpy() if hasattr(X, "to_numpy") else X
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUST":
        X = X.ravel().tolist()
    if is_one_image(X):
        raise ArgumentError("X must be a list of images, got one; put it into a list")
    if not isinstance(X, Iterable):
        raise ArgumentTypeError(f"X must be a list of images, got {type(X).__name__}")
    return X

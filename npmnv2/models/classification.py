"""Classification: transformers' `MobileNetV2ForImageClassification`, and `predict`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import ArrayLike

from npmnv2.errors import ArgumentError
from npmnv2.images.loading import ImageSource
from npmnv2.images.streams import OnError, check_count
from npmnv2.kernels import Array, global_average_pool
from npmnv2.labels import wnids_for
from npmnv2.models.base import DataFormat, HiddenStates, MobileNetV2PreTrainedModel, RunOptions, Transform
from npmnv2.models.losses import classification_loss
from npmnv2.models.outputs import HiddenStatesOutput, ImageClassifierOutputWithNoAttention
from npmnv2.network.architecture import CLASSIFIER, POOL, classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.plan import Plan
from npmnv2.results.prediction import Prediction
from npmnv2.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from npmnv2.results.heat_map import HeatMap


class MobileNetV2ForImageClassification(MobileNetV2PreTrainedModel):
    """The network with its classifier.

    The constructor takes the arguments of `MobileNetV2PreTrainedModel`.
    """

    task = "classification"

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """Backbone, pooling and dense layer."""
        return classifier(config)

    @classmethod
    def select(cls, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
        """The weights of a classifier's file, or of one of features if there are to be no classes."""
        without_classes = checkpoint.config is not None and checkpoint.config.classes == 0
        if checkpoint.task == "features" and without_classes:
            return checkpoint.weights
        return super().select(checkpoint, where)

    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        output_hidden_states: bool | None = ...,
        labels: ArrayLike | None = ...,
        return_dict: Literal[True] | None = ...,
        *,
        data_format: DataFormat = ...,
    ) -> ImageClassifierOutputWithNoAttention: ...
    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        *,
        output_hidden_states: Sequence[int | str],
        return_dict: Literal[True] | None = ...,
        data_format: DataFormat = ...,
    ) -> HiddenStatesOutput: ...
    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        output_hidden_states: HiddenStates = ...,
        labels: ArrayLike | None = ...,
        *,
        return_dict: Literal[False],
        data_format: DataFormat = ...,
    ) -> tuple[Any, ...]: ...
    def __call__(
        self,
        pixel_values: ArrayLike | None = None,
        output_hidden_states: HiddenStates = None,
        labels: ArrayLike | None = None,
        return_dict: bool | None = None,
        *,
        data_format: DataFormat = "channels_first",
    ) -> ImageClassifierOutputWithNoAttention | HiddenStatesOutput | tuple[Any, ...]:
        """Run on prepared images; see `MobileNetV2Model.__call__`.

        Parameters
        ----------
        labels : integers [shape=(N,)] or numbers [shape=(N, classes)], optional
            For the loss: regression for one class, else cross-entropy for integers and multi-label for floats, unless
            ``config.problem_type`` says which.

        Notes
        -----
        With `pooling_window` and an image larger than the window's reach, logits are (N, h, w, classes): the classifier
        at every position of the window. Their mean over h and w is what `predict` ranks.
        """
        values, hidden = self._forward(pixel_values, output_hidden_states, (self._top,), data_format)
        if values is None:
            return self._chosen(hidden, labels, return_dict)
        logits = values[self._top]
        if logits.shape[1:-1] == (1, 1):
            logits = logits[:, 0, 0]
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        output = ImageClassifierOutputWithNoAttention(loss, logits, hidden)
        return output.to_tuple() if return_dict is False else output

    @property
    def _top(self) -> str:
        return CLASSIFIER if self.config.classes else POOL

    @cached_property
    def _wnids(self) -> tuple[str | None, ...]:
        return wnids_for(self.labels)

    # The order matters: a path is an iterable of strings too, and an iterator an iterable.
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: ImageSource, top_k: int = ..., *, errors: Literal["raise"] = ..., **options: Unpack[RunOptions]
    ) -> Prediction: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        top_k: int = ...,
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> Iterator[Prediction]: ...
    @overload
    def predict(  # type: ignore[overload-overlap]
        self, images: Iterator[ImageSource], top_k: int = ..., *, errors: OnError, **options: Unpack[RunOptions]
    ) -> Iterator[Prediction | Exception]: ...
    @overload
    def predict(
        self,
        images: Iterable[ImageSource],
        top_k: int = ...,
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self, images: Iterable[ImageSource], top_k: int = ..., *, errors: OnError, **options: Unpack[RunOptions]
    ) -> list[Prediction | Exception]: ...
    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        top_k: int = 5,
        *,
        errors: OnError = "raise",
        transform: Transform | None = None,
        batch_size: int = 8,
    ) -> Any:
        """Classify photos.

        Parameters
        ----------
        images
            One image (path, PIL image, uint8 array (H, W, 3)), a list of them, or an iterator. An array of four axes,
            or a column of paths, is a list.
        top_k : int
            How many classes to return, best first.
        errors : {"raise", "skip", "return"}
            What becomes of an image that cannot be used, as in `features`.
        transform : {"hf", "slim", "keras", "raw", "deeplab", "ssd"} or MobileNetV2ImageProcessor, optional
            How a photo becomes the network's input, as in `features`.
        batch_size : int
            How many images run at once.

        Returns
        -------
        Prediction
            For a list, a list of them; for an iterator, an iterator, which reads at most `batch_size` images ahead.

        Raises
        ------
        FileNotFoundError, ImageError
            If an image is missing or unusable; the message names it.
        """
        check_count("top_k", top_k)
        if not self.config.classes:
            raise ArgumentError(
                "config.num_labels must be above 0 to predict; use features() of a model without classes"
            )

        def finish(values: dict[str, Array], at: int, image: Any) -> Prediction:
            logits = values[CLASSIFIER][at]
            logits = global_average_pool(logits[None])[0] if logits.ndim == 3 else logits
            source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
            return Prediction.from_logits(logits, self.labels, top_k, source, self._wnids)

        return self._map(images, (CLASSIFIER,), finish, errors, transform, batch_size)

    def explain(
        self, image: ImageSource, label: str | int | None = None, *, transform: Transform | None = None
    ) -> HeatMap:
        """Show where in a photo the network sees a class: what every place adds to the class's logit.

        Parameters
        ----------
        image
            As `predict` takes one.
        label : str or int, optional
            Name or number of a class; the likeliest one if not given.
        transform : {"hf", "slim", "keras", "raw", "deeplab"} or MobileNetV2ImageProcessor, optional
            How a photo becomes the network's input, as in `features`.

        Returns
        -------
        HeatMap
            ``logit = bias + contributions.mean()``, exactly, since everything after the last convolution is linear. A
            quantized network rounds the mean and the logit, so there it holds within a step of either.

        Raises
        ------
        ArgumentError
            If the model has no such class.
        FileNotFoundError, ImageError

        Examples
        --------
        >>> model.explain("cat.jpg", "tabby").save("where.png")  # doctest: +SKIP
        """
        from npmnv2.models.heat_map import explain

        if not self.config.classes:
            raise ArgumentError("config.num_labels must be above 0 to explain a class")
        return explain(self, image, label, self._processor(transform))

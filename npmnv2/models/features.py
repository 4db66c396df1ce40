"""The backbone: transformers' `MobileNetV2Model`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from numpy.typing import ArrayLike

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.models.base import DataFormat, HiddenStates, MobileNetV2PreTrainedModel, layout
from npmnv2.models.outputs import BaseModelOutputWithPoolingAndNoAttention, HiddenStatesOutput
from npmnv2.network.architecture import CLASSIFIER, LAST_CONV, POOL, pooled_backbone
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.plan import Plan
from npmnv2.weights.checkpoint import Checkpoint


class MobileNetV2Model(MobileNetV2PreTrainedModel):
    """The network without a classifier.

    The constructor takes the arguments of `MobileNetV2PreTrainedModel`.
    """

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """Backbone and pooling."""
        return pooled_backbone(config)

    @classmethod
    def select(cls, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
        """The weights of the backbone, also from a classifier's file."""
        if checkpoint.task not in ("features", "classification"):
            raise WeightsError(f"{where} must hold a classification or features model, got {checkpoint.task}")
        return {name: array for name, array in checkpoint.weights.items() if not name.startswith(f"{CLASSIFIER}/")}

    @overload
    def __call__(
        self,
        pixel_values: ArrayLike | None = ...,
        output_hidden_states: bool | None = ...,
        return_dict: Literal[True] | None = ...,
        *,
        data_format: DataFormat = ...,
    ) -> BaseModelOutputWithPoolingAndNoAttention: ...
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
        *,
        return_dict: Literal[False],
        data_format: DataFormat = ...,
    ) -> tuple[Any, ...]: ...
    def __call__(
        self,
        pixel_values: ArrayLike | None = None,
        output_hidden_states: HiddenStates = None,
        return_dict: bool | None = None,
        *,
        data_format: DataFormat = "channels_first",
    ) -> BaseModelOutputWithPoolingAndNoAttention | HiddenStatesOutput | tuple[Any, ...]:
        """Run on prepared images.

        Parameters
        ----------
        pixel_values : Array [shape=(N, C, H, W)]
            With ``data_format="channels_last"`` (N, H, W, C), which saves a transpose; maps in the output follow.
        output_hidden_states : bool or list of int and str
            True for the outputs of the 16 blocks beside everything else. A list of indices or endpoint names returns
            just those, and the run stops at the last one.
        return_dict : bool
            False for a plain tuple.
        """
        outputs = (LAST_CONV, POOL)
        values, hidden = self._forward(pixel_values, output_hidden_states, outputs, data_format)
        if values is None:
            return self._chosen(hidden, None, return_dict)
        last, pooled = (layout(values[name], data_format) for name in outputs)
        output = BaseModelOutputWithPoolingAndNoAttention(last, pooled, hidden)
        return output.to_tuple() if return_dict is False else output

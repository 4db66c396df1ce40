"""Our own models: any backend, number type and arithmetic."""

from __future__ import annotations

from typing import Any, ClassVar

from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter
from npmnv2.lab.alignment import Tap, completed
from npmnv2.network.plan import IMAGE


class Ours(Adapter):
    """A model of npmnv2; anything with `plan`, `prepare` and `trace`."""

    runtime: ClassVar[str] = "npmnv2"

    def __init__(self, model: Any, name: str = "") -> None:
        self.model = model
        quantization = getattr(model, "quantization", None)
        arithmetic = getattr(model.backend, "arithmetic", "") if quantization is not None else ""
        details = ", ".join(word for word in (model.backend.name, model.number_type, arithmetic) if word)
        self.label = f"{name or type(model).__name__} (npmnv2, {details})"
        if quantization is not None:
            steps = {name: value.scale[0] for name, value in quantization.values.items()}
            self.scales = completed(steps, model.plan)

    def taps(self, x: Array) -> list[Tap]:
        """Every endpoint, and the image as the network takes it."""
        values = {IMAGE: x, **self.model.trace(x)}
        return [Tap(name, value, scale=self.scales.get(name)) for name, value in values.items()]

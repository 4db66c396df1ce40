"""TFLite files in LiteRT, with its default delegate (XNNPACK). Inner tensors are seen by making them outputs."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from npmnv2.errors import WeightsError
from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter, framework
from npmnv2.lab.alignment import Tap
from npmnv2.weights_tools import wiring


class LiteRT(Adapter):
    """A TFLite file.

    Parameters
    ----------
    path : str or Path
    n_threads : int
    """

    runtime: ClassVar[str] = "litert"

    def __init__(self, path: str | Path, n_threads: int = 1) -> None:
        interpreter = framework("ai_edge_litert.interpreter", "ai-edge-litert").Interpreter
        self.path, self.label = Path(path), f"{Path(path).name} (LiteRT)"
        self.wiring = wiring.tflite_wiring(path)
        keys = [wire.key for wire in self.wiring.wires]
        content = wiring.tflite_with_outputs(path, keys)
        self.interpreter = interpreter(model_content=content, num_threads=n_threads)

    @cached_property
    def model(self) -> Any:
        """The file's weights here; None if they are not a MobileNetV2's."""
        return read_model(self.path)

    def taps(self, x: Array) -> list[Tap]:
        """Every computed tensor, as real numbers."""
        interpreter = self.interpreter
        image = interpreter.get_input_details()[0]
        if tuple(image["shape"]) != x.shape:
            interpreter.resize_tensor_input(image["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], _stored(x, image))
        interpreter.invoke()
        return [
            Tap(wire.name, self._real(wire), wire.kind, wire.sources[0], wire.key, wire.scale)
            for wire in self.wiring.wires
        ]

    def _real(self, wire: wiring.Wire) -> Array:
        value: Any = self.interpreter.get_tensor(int(wire.key))
        if wire.scale is None:
            return np.asarray(value)
        real: Array = ((value.astype(np.int32) - wire.zero_point) * np.float32(wire.scale)).astype(np.float32)
        return real


def _stored(x: Array, image: dict[str, Any]) -> Any:
    """Real numbers as the file's input takes them."""
    scale, zero_point = image["quantization"]
    if not scale:
        return x.astype(image["dtype"])
    limits = np.iinfo(image["dtype"])
    return np.clip(np.rint(x / np.float32(scale)) + zero_point, limits.min, limits.max).astype(image["dtype"])


def read_model(path: str | Path) -> Any:
    """The network in a file as a model in float64, or in its integers; None if npmnv2 does not read it."""
    from npmnv2.loading import load

    try:
        return load(path, dtype="float64")
    except WeightsError:
        return None
    except ValueError:
        return load(path)  # a quantized network has no float64

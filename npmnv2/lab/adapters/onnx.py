"""ONNX files in ONNX Runtime. Inner values are seen by making them outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter, framework
from npmnv2.lab.alignment import Tap
from npmnv2.weights_tools import wiring

_WARNINGS_OFF = 3


class OnnxRuntime(Adapter):
    """An ONNX file, channels first or last.

    Parameters
    ----------
    path : str or Path
    n_threads : int
    """

    runtime: ClassVar[str] = "onnxruntime"

    def __init__(self, path: str | Path, n_threads: int = 1) -> None:
        onnxruntime = framework("onnxruntime", "onnxruntime")
        self.label = f"{Path(path).name} (ONNX Runtime)"
        self.wires = wiring.onnx_wiring(path).wires
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = n_threads, _WARNINGS_OFF
        model = wiring.onnx_with_outputs(path, self._new_outputs(onnxruntime, path))
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _new_outputs(self, onnxruntime: Any, path: str | Path) -> list[str]:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        known = {output.name for output in session.get_outputs()}
        return [wire.key for wire in self.wires if wire.key not in known]

    def taps(self, x: Array) -> list[Tap]:
        """Every computed value; maps with the channels last."""
        image = self.session.get_inputs()[0]
        first = channels_first(image.shape, x)
        value = x.transpose(0, 3, 1, 2) if first else x
        keys = [wire.key for wire in self.wires]
        dtype = {"tensor(double)": "float64", "tensor(float16)": "float16"}.get(image.type, "float32")
        found = dict(zip(keys, self.session.run(keys, {image.name: value.astype(dtype)})))
        return [
            Tap(wire.name, channels_last(found[wire.key]), wire.kind, wire.sources[0], wire.key) for wire in self.wires
        ]


def channels_first(shape: Any, x: Array) -> bool:
    """Whether an input of this shape, with names or None for free sizes, takes the channels first."""
    channels = x.shape[-1]
    return (len(shape) == 4 and shape[1] == channels and shape[3] != channels) or shape[3] not in (channels, None, -1)


def channels_last(value: Array) -> Array:
    """A map in our layout; other values as they are. ONNX's own convolutions have the channels first."""
    return value.transpose(0, 2, 3, 1) if value.ndim == 4 else value

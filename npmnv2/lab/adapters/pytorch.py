"""PyTorch modules, those of transformers among them. Inner values are seen by hooks."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter, framework
from npmnv2.lab.adapters.litert import read_model
from npmnv2.lab.alignment import UNKNOWN, Tap
from npmnv2.weights_tools import read, wiring, write_transformers

_POOLS = ("AdaptiveAvgPool2d", "AvgPool2d")
_PASSING = ("Dropout", "Dropout2d", "Identity", "Flatten", "ZeroPad2d")


class PyTorch(Adapter):
    """A live module that takes images with the channels first.

    Parameters
    ----------
    live : torch.nn.Module
        In evaluation mode: this adapter changes nothing.
    label : str
    """

    runtime: ClassVar[str] = "torch"

    def __init__(self, live: Any, label: str = "") -> None:
        self.torch = framework("torch", "torch")
        self.live, self.label = live, label or f"{type(live).__name__} (PyTorch)"

    @classmethod
    def from_file(cls, path: str | Path) -> PyTorch:
        """In transformers, the network of any file that npmnv2 reads."""
        transformers = framework("transformers", "transformers")
        with tempfile.TemporaryDirectory() as folder:
            write_transformers(read(path), folder)
            config = transformers.AutoConfig.from_pretrained(folder)
            kind = getattr(transformers, (config.architectures or ["MobileNetV2Model"])[0])
            live = kind.from_pretrained(folder).eval()
        return cls(live, f"{Path(path).name} (transformers)")

    @cached_property
    def model(self) -> Any:
        """The module's weights here, if it is transformers'; None otherwise."""
        if not hasattr(self.live, "save_pretrained"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            self.live.save_pretrained(folder)
            return read_model(folder)

    def taps(self, x: Array) -> list[Tap]:
        """The result of every module, in the order in which they finish; maps with the channels last."""
        taps: list[Tap] = []
        hooks = [
            module.register_forward_hook(self._hook(name, module, taps))
            for name, module in self.live.named_modules()
            if name
        ]
        parameter = next(self.live.parameters())
        image = self.torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        try:
            with self.torch.inference_mode():
                self.live(image.to(parameter.dtype))
        finally:
            for hook in hooks:
                hook.remove()
        return taps

    def _hook(self, name: str, module: Any, taps: list[Tap]) -> Any:
        def keep(_: Any, __: Any, output: Any) -> None:
            if self.torch.is_tensor(output):
                value = output.detach().to(self.torch.float64 if output.element_size() > 4 else self.torch.float32)
                array = value.cpu().numpy()
                last = next((tap.key for tap in reversed(taps) if tap.kind != UNKNOWN), "")
                placed = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
                taps.append(Tap(name, placed.copy(), _kind(module), last, f"{name}#{len(taps)}"))

        return keep


def _kind(module: Any) -> str:
    """What a module does; a module of modules is known by its name only."""
    name = type(module).__name__
    if next(module.children(), None) is not None:
        return UNKNOWN
    if name == "Conv2d":
        return wiring.DEPTHWISE if module.groups > 1 else wiring.CONV
    if name == "Linear":
        return wiring.DENSE
    if name in _POOLS:
        return wiring.POOL
    return wiring.PASS if name in _PASSING else wiring.FOLLOW

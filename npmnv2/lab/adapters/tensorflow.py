"""Frozen TensorFlow graphs: inner values are fetched by the names of their operations."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from npmnv2.kernels import Array
from npmnv2.lab.adapters.interface import Adapter, framework
from npmnv2.lab.adapters.litert import read_model
from npmnv2.lab.alignment import Tap
from npmnv2.weights_tools import wiring


class FrozenGraph(Adapter):
    """A ``.pb`` file."""

    runtime: ClassVar[str] = "tensorflow"

    def __init__(self, path: str | Path) -> None:
        tensorflow = framework("tensorflow", "tensorflow")
        self.path, self.label = Path(path), f"{Path(path).name} (TensorFlow)"
        self.wiring = wiring.frozen_graph_wiring(path)
        tf1: Any = tensorflow.compat.v1
        definition = tf1.GraphDef()
        definition.ParseFromString(self.path.read_bytes())
        self.graph = tensorflow.Graph()
        with self.graph.as_default():
            tf1.import_graph_def(definition, name="")
        self.session = tf1.Session(graph=self.graph)

    @cached_property
    def model(self) -> Any:
        """The graph's weights here; None if they are not a MobileNetV2's."""
        return read_model(self.path)

    def taps(self, x: Array) -> list[Tap]:
        """The first result of every operation that depends on the input."""
        image = self.graph.get_tensor_by_name(f"{self.wiring.image}:0")
        value = np.rint((x + 1) * 127.5) if image.dtype.is_integer else x
        wires = [wire for wire in self.wiring.wires if self.graph.get_operation_by_name(wire.key).outputs]
        found = self.session.run([f"{w.key}:0" for w in wires], {image: value.astype(image.dtype.as_numpy_dtype)})
        return [Tap(w.name, np.asarray(v), w.kind, w.sources[0], w.key) for w, v in zip(wires, found)]

"""Graph models of TensorFlow.js, run by TensorFlow itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def run_tfjs_graph(folder: Path, feeds: Sequence[Mapping[str, Any]], outputs: Sequence[str]) -> list[list[np.ndarray]]:
    """Values of tensors, such as ``"Postprocessor/Slice:0"``, for each of the inputs."""
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(tfjs_graph_def(folder), name="")
        with tf.compat.v1.Session(graph=graph) as session:
            return [session.run(list(outputs), dict(feed)) for feed in feeds]


def tfjs_graph_def(folder: Path) -> Any:
    """The graph with its weights, as a protocol buffer."""
    tf = pytest.importorskip("tensorflow")
    json_format = pytest.importorskip("google.protobuf.json_format")
    model = json.loads((folder / "model.json").read_text())
    graph = tf.compat.v1.GraphDef()
    json_format.ParseDict(_with_texts(model["modelTopology"]), graph)
    weights = _weights(folder, model["weightsManifest"])
    for node in graph.node:
        if node.name in weights:
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(weights[node.name]))
    return graph


def _weights(folder: Path, manifest: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    content = b"".join((folder / path).read_bytes() for group in manifest for path in group["paths"])
    weights, start = {}, 0
    for weight in (weight for group in manifest for weight in group["weights"]):
        count = int(np.prod(weight["shape"], dtype=int))
        values = np.frombuffer(content, weight["dtype"], count, start)
        weights[weight["name"]] = values.reshape(weight["shape"])
        start += values.nbytes
    return weights


def _with_texts(value: Any) -> Any:
    """Older files have texts as lists of byte codes, where the protocol buffer's JSON has base64."""
    if isinstance(value, dict):
        return {key: _with_texts(entry) for key, entry in value.items() if key != "s"} | _text(value)
    return [_with_texts(entry) for entry in value] if isinstance(value, list) else value


def _text(value: Mapping[str, Any]) -> dict[str, Any]:
    codes = value.get("s") or []
    return {"s": base64.b64encode(bytes(codes)).decode()} if codes else {}

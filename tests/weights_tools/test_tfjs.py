"""TensorFlow.js models: graphs and Keras models, quantized or not, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from weight_files import assert_same_weights, folded, random_checkpoint, tfjs_graph, tfjs_layers, write_tfjs

from npmnv2 import WeightsError
from npmnv2.weights.assemble import plan_for
from npmnv2.weights.bounds import MAX_JSON_BYTES
from npmnv2.weights.checkpoint import fold_batch_norms
from npmnv2.weights_tools import detect_format, read, tfjs

# Relative to the range of a kernel's values: half a step of the type.
STEPS = {"float32": 2e-7, "float16": 2**-11, "uint16": 0.51 / 65535, "uint8": 0.51 / 255}


def assert_close(found, checkpoint, kind="float32") -> None:
    """The same network up to the steps in which its weights are stored."""
    plan = plan_for(checkpoint.config, checkpoint.weights)
    expected = fold_batch_norms(plan, checkpoint.weights)
    actual = fold_batch_norms(plan_for(found.config, found.weights), found.weights)
    assert set(actual) == set(expected)
    for name, value in expected.items():
        largest = np.ptp(value) if value.size > 1 else abs(value).max()
        # A factor of a depthwise kernel is stored, too; and a norm's variables reach a bias together.
        assert abs(actual[name] - value).max() <= 8 * STEPS[kind] * max(largest, abs(value).max()), name


@pytest.mark.parametrize("task", ["classification", "segmentation", "detection", "features"])
@pytest.mark.parametrize("byte_lists", [False, True])
def test_graph_models(tmp_path: Path, task, byte_lists) -> None:
    fields = {"output_stride": 16} if task == "segmentation" else {}
    checkpoint = random_checkpoint(task, **fields)
    folder = tfjs_graph(tmp_path / "model", checkpoint, byte_lists=byte_lists)
    assert detect_format(folder) == detect_format(folder / "model.json") == "tfjs"
    found = read(folder)
    assert (found.task, found.config.classes) == (task, checkpoint.config.classes)
    assert (found.source["format"], found.config.image_size) == ("tfjs", 64)
    assert_close(found, checkpoint)
    assert_same_weights(read(folder / "model.json").weights, found.weights)


@pytest.mark.parametrize("kind", ["float16", "uint16"])
def test_quantized_graph_models(tmp_path: Path, kind) -> None:
    checkpoint = folded(random_checkpoint())
    assert_close(read(tfjs_graph(tmp_path / "model", checkpoint, kind)), checkpoint, kind)


@pytest.mark.parametrize("kind", STEPS)
def test_layers_models(tmp_path: Path, kind) -> None:
    checkpoint = folded(random_checkpoint())
    found = read(tfjs_layers(tmp_path / "model", checkpoint, kind))
    assert (found.task, found.config.image_size, found.preprocessing["preset"]) == ("classification", 64, "keras")
    assert_close(found, checkpoint, kind)


def test_unfolded_layers_model(tmp_path: Path) -> None:
    checkpoint = random_checkpoint()
    assert_same_weights(read(tfjs_layers(tmp_path / "model", checkpoint)).weights, checkpoint.weights)


def test_fused_operations(tmp_path: Path) -> None:
    """Later converters make one operation of a convolution, its bias and its activation, and name it after the last."""
    checkpoint = folded(random_checkpoint())
    plan = plan_for(checkpoint.config, checkpoint.weights)
    nodes, weights = [{"name": "input", "op": "Placeholder"}], {}
    for part in plan.parts():
        if f"{part.name}/kernel" not in checkpoint.weights:
            continue
        names = [f"model/{part.name}/Conv2D_weights", f"model/{part.name}/Conv2D_bn_offset"]
        values = [checkpoint.weights[f"{part.name}/{role}"] for role in ("kernel", "bias")]
        weights.update(zip(names, values))
        nodes += [{"name": name, "op": "Const"} for name in names]
        kind = "FusedDepthwiseConv2dNative" if part.name.endswith("depthwise") else "_FusedConv2D"
        if part.name == "predictions":
            nodes.append({"name": "model/predictions/MatMul", "op": "MatMul", "input": ["input", names[0]]})
            add = {
                "name": "model/predictions/BiasAdd",
                "op": "BiasAdd",
                "input": ["model/predictions/MatMul", names[1]],
            }
            nodes.append(add)
            continue
        strides = {"list": {"i": ["1", *[str(part.layer.stride)] * 2, "1"]}}
        operators = {"list": {"s": ["Qmlhc0FkZA==", "UmVsdTY="]}}  # BiasAdd, Relu6
        attributes = {"fused_ops": operators, "strides": strides}
        nodes.append(
            {"name": f"model/{part.name}_relu/Relu6", "op": kind, "input": ["input", *names], "attr": attributes}
        )
    found = read(write_tfjs(tmp_path / "model", {"node": nodes}, weights))
    assert (found.preprocessing["preset"], found.config.hidden_act) == ("keras", "relu6")
    assert_same_weights(found.weights, checkpoint.weights)


def test_texts_and_counters_among_the_weights(tmp_path: Path) -> None:
    folder = tfjs_graph(tmp_path / "model", random_checkpoint())
    expected = read(folder).weights
    model = json.loads((folder / "model.json").read_text())
    model["weightsManifest"].append(
        {
            "paths": ["more.bin"],
            "weights": [
                {"name": "message", "shape": [2], "dtype": "string"},
                {"name": "counter", "shape": [], "dtype": "int32"},
            ],
        }
    )
    (folder / "more.bin").write_bytes(b"\x02\0\0\0hi\0\0\0\0" + b"\x07\0\0\0")
    (folder / "model.json").write_text(json.dumps(model))
    assert_same_weights(read(folder).weights, expected)
    (folder / "more.bin").write_bytes(b"\xff\xff\0\0hi")
    with pytest.raises(WeightsError, match="a text of 65,535 bytes in 6"):
        read(folder)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tfjs_graph(tmp_path_factory.mktemp("intact") / "model", random_checkpoint())
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(intact, tmp_path: Path) -> Path:
    for name, content in intact.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def nodes(model):
    return model["modelTopology"]["node"]


def edit(folder: Path, change) -> None:
    model = json.loads((folder / "model.json").read_text())
    change(model, model["weightsManifest"][0])
    (folder / "model.json").write_text(json.dumps(model))


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "C:x", "a\\b", "a\0b", "a" * 300, 3]
)
def test_shards_elsewhere(folder: Path, name) -> None:
    (folder.parent / "secret").write_bytes(b"x")
    edit(folder, lambda model, group: group.update(paths=[name]))
    with pytest.raises(WeightsError, match="must be the name of a file in the same folder") as caught:
        read(folder)
    assert "model.json" in str(caught.value)


def test_missing_shard(folder: Path) -> None:
    (folder / "group1-shard2of2.bin").unlink()
    with pytest.raises(WeightsError, match=r"group1-shard2of2\.bin: is missing; model.json lists it"):
        read(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_no_shard(folder: Path) -> None:
    (folder / "group1-shard2of2.bin").unlink()
    os.mkfifo(folder / "group1-shard2of2.bin")
    with pytest.raises(WeightsError, match="not a regular file"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model, group: group["paths"].append(group["paths"][0]), "more than the weights take"),
        (lambda model, group: group["paths"].pop(), "bytes of data for shape"),
        (lambda model, group: group["weights"].pop(), "in group 0: 12 bytes more than the weights take"),
        (lambda model, group: group["weights"][0].update(shape=[1 << 40]), "impossible shape"),
        (lambda model, group: group["weights"][0].update(shape=[-1]), "impossible shape"),
        (lambda model, group: group["weights"][0].update(shape=[1 << 20, 64]), "bytes of data for shape"),
        (lambda model, group: group["weights"][0].update(shape=[1.5]), r"1\.5 must be an integer"),
        (lambda model, group: group["weights"][0].update(shape=["x"]), "'x' must be an integer"),
        (lambda model, group: group["weights"][0].update(shape=3), "'shape' must be a JSON list, got 3"),
        (lambda model, group: group["weights"][0].update(dtype="complex64"), "type 'complex64', which is not read"),
        (lambda model, group: group["weights"][0].update(dtype=None), "'dtype' must be a JSON text"),
        (lambda model, group: group["weights"][0].update(name="x" * 5000), "a name of 5000 characters"),
        (lambda model, group: group["weights"][0].update(quantization={"dtype": "int4"}), "'int4', which is not read"),
        (lambda model, group: group["weights"][0].update(quantization=[3]), "'quantization' must be a JSON object"),
        (lambda model, group: group["weights"].insert(1, group["weights"][0]), "two weights have the name"),
        (lambda model, group: group["weights"][0].update(name="other"), "lists no numbers for the constant"),
        (lambda model, group: group["weights"].append(3), "in group 0, weight 1.*: must be a JSON object, got 3"),
        (lambda model, group: group.pop("paths"), "in group 0: 'paths' must be a JSON list, got None"),
        (lambda model, group: model.update(weightsManifest={}), "'weightsManifest' must be a JSON list"),
        (lambda model, group: model.pop("modelTopology"), "'modelTopology' must be a JSON object, got None"),
        (lambda model, group: model.update(modelTopology={"node": [3]}), "in node 0: must be a JSON object, got 3"),
        (lambda model, group: model.update(modelTopology={"node": []}), "no operations"),
        (lambda model, group: model.update(modelTopology={"node": [{"name": "x"}]}), "'op' must be a JSON text"),
        (lambda model, group: nodes(model)[1].update(input=[3]), "'input' must be a list of names"),
        (lambda model, group: nodes(model).append(nodes(model)[0]), "two operations"),
    ],
)
def test_damaged_manifests(folder: Path, change, words) -> None:
    edit(folder, change)
    with pytest.raises(WeightsError, match=words) as caught:
        read(folder)
    assert "model.json" in str(caught.value)


def test_scale_that_is_no_number(tmp_path: Path) -> None:
    folder = tfjs_graph(tmp_path / "model", folded(random_checkpoint()), "uint8")
    edit(folder, lambda model, group: group["weights"][0]["quantization"].update(scale="0.1"))
    with pytest.raises(WeightsError, match=r"in the quantization of .*: 'scale' must be a JSON number, got '0\.1'"):
        read(folder)
    edit(folder, lambda model, group: group["weights"][0]["quantization"].update(scale=1e400))
    with pytest.raises(WeightsError, match="not finite"):
        read(folder)


@pytest.mark.parametrize("text", [b"[3]", b"{", b'{"a": ' + b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b"\xff{"])
def test_texts_that_are_no_models(tmp_path: Path, text) -> None:
    (tmp_path / "model.json").write_bytes(text)
    with pytest.raises(WeightsError, match=r"model\.json"):
        tfjs.read(tmp_path / "model.json")


def test_a_text_that_is_too_long(folder: Path) -> None:
    with (folder / "model.json").open("ab") as file:
        file.write(b" " * MAX_JSON_BYTES)
    with pytest.raises(WeightsError, match="more than the 16,777,216 that are read"):
        read(folder)


def test_many_quantized_weights_of_few_bytes(folder: Path) -> None:
    """A group may name one file many times: what it takes in memory is paid by the file's own size."""
    (folder / "shared.bin").write_bytes(bytes(4 << 20))
    listed = {
        "name": "x",
        "shape": [4 << 20],
        "dtype": "float32",
        "quantization": {"dtype": "uint8", "min": 0, "scale": 1},
    }
    group = [{"paths": ["shared.bin"], "weights": [{**listed, "name": str(number)}]} for number in range(100)]
    edit(folder, lambda model, _: model["weightsManifest"].extend(group))
    with pytest.raises(WeightsError, match="more memory to read than a file of"):
        read(folder)


VALUES = [None, True, 0, -1, 1 << 31, 1 << 70, 0.5, 1e400, "", "x", "-1", [], [1], {}, {"list": 3}, {"dim": [{}]}]


def places(value, found):
    """All (container, key) pairs inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        found.append((value, key))
        places(inner, found)
    return found


def refusal(folder: Path) -> str | None:
    try:
        read(folder)
    except WeightsError as error:
        return str(error)
    return None


@pytest.mark.parametrize("write", [tfjs_graph, tfjs_layers])
def test_values_of_the_wrong_kind(tmp_path: Path, write) -> None:
    """Damage that JSON does not show: whatever stands where in it, the file is read or refused by name."""
    folder = write(tmp_path / "model", random_checkpoint())
    text = (folder / "model.json").read_text()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        model = json.loads(text)
        found = places(model, [])
        for _ in range(rng.integers(1, 4)):
            container, key = found[rng.integers(len(found))]
            container[key] = VALUES[rng.integers(len(VALUES))]
        (folder / "model.json").write_text(json.dumps(model))
        message = refusal(folder)
        refused += message is not None
        assert message is None or str(folder) in message
    assert refused > 25

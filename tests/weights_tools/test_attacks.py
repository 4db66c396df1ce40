"""Files made to cost more than their size allows, or to raise what no reader expects."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from weight_files import field, node, random_checkpoint, varint

from npmnv2 import WeightsError
from npmnv2.weights_tools import read, write_npz, write_transformers

MOST_SECONDS = 2


def refused(path: Path, words: str | None = None) -> None:
    """Reading ends in a WeightsError that names the file, in little CPU time."""
    before = os.times()
    with pytest.raises(WeightsError, match=words) as caught:
        read(path)
    after = os.times()
    assert after.user + after.system - before.user - before.system < MOST_SECONDS
    assert path.name in str(caught.value)


# --- frozen graphs --------------------------------------------------------------------------------------------------


def test_a_constant_of_many_attributes_that_many_convolutions_use(tmp_path: Path) -> None:
    attributes = {f"a{number}": b"" for number in range(2000)}
    graph = [node("weights", "Const", **attributes, value=field(8, field(1, 1)))]
    graph += [node(f"c{number}", "Conv2D", ["image", "weights"]) for number in range(2000)]
    (tmp_path / "graph.pb").write_bytes(b"".join(graph))
    refused(tmp_path / "graph.pb")


def test_an_operation_that_many_take_as_input(tmp_path: Path) -> None:
    graph = [node("weights", "Const", value=field(8, field(1, 1)))]
    for number in range(2000):
        graph.append(node(f"c{number}", "Conv2D", ["c0", "weights"]))
    (tmp_path / "graph.pb").write_bytes(b"".join(graph))
    refused(tmp_path / "graph.pb")


# --- TFLite ---------------------------------------------------------------------------------------------------------


def test_operators_that_share_one_long_vector(tmp_path: Path) -> None:
    """A FlatBuffer by hand: 4,000 offsets to one operator whose inputs are 1,000 numbers."""
    operators, inputs = 4000, 1000
    out = bytearray(b"\0\0\0\0TFL3")

    def table(*slots: tuple[int, bytes]) -> int:
        """Append a vtable and a table; returns the table's position. Offsets are filled in by the caller."""
        count = max(slot for slot, _ in slots) + 1
        offsets, body = [0] * count, b""
        for slot, value in slots:
            offsets[slot] = 4 + len(body)
            body += value
        vtable = len(out)
        out.extend(struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + len(body), *offsets))
        out.extend(b"\0" * (-len(out) % 4))
        position = len(out)
        out.extend(struct.pack("<i", position - vtable) + body)
        return position

    def point(at: int, target: int) -> None:
        struct.pack_into("<I", out, at, target - at)

    def vector(values: list[int]) -> int:
        position = len(out)
        out.extend(struct.pack(f"<I{len(values)}I", len(values), *values))
        return position

    root = table((1, b"\0" * 4), (2, b"\0" * 4), (4, b"\0" * 4))
    struct.pack_into("<I", out, 0, root)
    codes, graphs, buffers = vector([0]), vector([0]), vector([])
    for at, target in zip((root + 4, root + 8, root + 12), (codes, graphs, buffers)):
        point(at, target)
    point(codes + 4, table((0, struct.pack("<b3x", 3))))
    graph = table((0, b"\0" * 4), (1, b"\0" * 4), (3, b"\0" * 4))
    point(graphs + 4, graph)
    tensors, images, steps = vector([]), vector([0]), vector([0] * operators)
    for at, target in zip((graph + 4, graph + 8, graph + 12), (tensors, images, steps)):
        point(at, target)
    operator = table((1, b"\0" * 4))
    for number in range(operators):
        point(steps + 4 + 4 * number, operator)
    point(operator + 4, vector([0] * inputs))
    (tmp_path / "model.tflite").write_bytes(bytes(out))
    refused(tmp_path / "model.tflite", "more work to read than a file of")


# --- HDF5 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}], ids=str)
def test_a_thousand_nested_groups(tmp_path: Path, options) -> None:
    with h5py.File(tmp_path / "model.h5", "w", **options) as file:
        file["/".join(["g" * 100] * 1000) + "/kernel"] = np.zeros(3, np.float32)
    refused(tmp_path / "model.h5", "nested deeper than 32")


# --- npz ------------------------------------------------------------------------------------------------------------


def npz(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, name: str = "Conv1/kernel.npy") -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def npy(header: str) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_kilobyte_of_many_zeros(tmp_path: Path, compression) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(66 << 18, np.float32))
    path = npz(tmp_path / "m.npz", stream.getvalue(), compression)
    refused(
        path, "more memory to read than a file of" if compression == zipfile.ZIP_DEFLATED else "other than by deflate"
    )


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4'",
        "-" * 9000 + "1",
        "(" * 5000,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 65 + ")}",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
    ],
    ids=lambda header: header[:60],
)
def test_headers_that_numpy_would_parse(tmp_path: Path, header) -> None:
    refused(npz(tmp_path / "m.npz", npy(header) + b"\0" * 4))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members(tmp_path: Path, compression) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(5000, dtype=np.float32))
    data = bytearray(npz(tmp_path / "m.npz", stream.getvalue(), compression).read_bytes())
    for at in range(60, len(data) - 100, 997):
        (tmp_path / "m.npz").write_bytes(data[:at] + b"\xff" * 40 + data[at + 40 :])
        refused(tmp_path / "m.npz")


# --- safetensors ----------------------------------------------------------------------------------------------------


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [0, 2**63 - 1], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        {"dtype": "F32", "shape": 7, "data_offsets": [0, 4]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "Q4", "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        [],
        None,
    ],
    ids=str,
)
def test_tensors_that_are_none(tmp_path: Path, entry) -> None:
    refused(safetensors(tmp_path / "model.safetensors", {"x": entry}, b"\0" * 4), "tensor 'x'")


@pytest.mark.parametrize("header", [b"{" * 200_000, b"[]", b"{", b'{"a": ' + b"[" * 100_000, b"\xff{}"], ids=len)
def test_headers_that_are_none(tmp_path: Path, header) -> None:
    refused(safetensors(tmp_path / "model.safetensors", header))


def test_tensors_that_share_their_bytes(tmp_path: Path) -> None:
    data = bytes(1 << 22)
    entry = {"dtype": "F32", "shape": [1 << 20], "data_offsets": [0, len(data)]}
    header = {f"features.{number}.weight": entry for number in range(1000)}
    refused(safetensors(tmp_path / "model.safetensors", header, data), "more memory to read")


# --- JSON -----------------------------------------------------------------------------------------------------------

CONFIGS = [
    "[" * 200_000,
    '{"a":' * 100_000,
    '{"depth_multiplier": 1e308}',
    '{"expand_ratio": 1e308}',
    '{"depth_multiplier": 1e999}',
    '{"depth_multiplier": NaN}',
    '{"num_channels": ' + "9" * 4000 + "}",
    '{"num_channels": ' + "9" * 5000 + "}",
    '{"id2label": ["a", "b", "c"]}',
    '{"id2label": {"x": "a"}}',
    '{"label2id": ["a", "b", "c"]}',
    '{"label2id": {"a": "x"}}',
    '{"label2id": {"a": [0]}}',
    '{"num_labels": 1e6}',
    '{"image_size": []}',
    '{"image_size": ["a", 3]}',
    '{"atrous_rates": {"a": 1}}',
    '{"hidden_act": []}',
    '{"width_rule": []}',
    '{"problem_type": {}}',
]


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: text[:30])
@pytest.mark.parametrize("kind", ["transformers", "native"])
def test_configurations(tmp_path: Path, text, kind) -> None:
    folder = tmp_path / "config.json"  # so that every message names it
    if kind == "transformers":
        write_transformers(random_checkpoint(), folder)
    else:
        from npmnv2.weights_tools import write_native

        folder.mkdir()
        write_native(random_checkpoint(), folder / "model.h5")
    (folder / "config.json").write_text(text)
    refused(folder)


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: text[:30])
def test_configurations_inside_an_archive(tmp_path: Path, text) -> None:
    write_npz(random_checkpoint(), tmp_path / "m.npz")
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stated = f'{{"config": {text}, "labels": null, "preprocessing": {{}}, "source": {{}}}}'
    members["npmnv2.json"] = stated.encode()
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(tmp_path / "m.npz")


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_very_long_names(tmp_path: Path) -> None:
    (tmp_path / "graph.pb").write_bytes(field(1, field(1, "x" * 5000) + field(2, "Const")))
    refused(tmp_path / "graph.pb", "a name of 5000 bytes")


def test_packed_numbers_without_end(tmp_path: Path) -> None:
    strides = field(1, field(3, varint(1) * 3_000_000))
    graph = node("MobilenetV2/Conv/weights", "Const", value=field(8, field(1, 1) + field(2, b"")))
    graph += node("MobilenetV2/Conv/Conv2D", "Conv2D", ["image", "MobilenetV2/Conv/weights"], strides=strides)
    (tmp_path / "graph.pb").write_bytes(graph)
    refused(tmp_path / "graph.pb")

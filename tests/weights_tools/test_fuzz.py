"""Damaged files of every format: each either loads or raises WeightsError naming the file, quickly and in
little memory.

A flipped bit among the numbers themselves is no damage that a format without checksums could show, so some
variants load.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detector_graphs import anchors, coder, preparation, resize, scores, suppression
from npmnv2.weights_tools.crc32c import crc32c, masked
from quantized_networks import quantized_checkpoint
from weight_files import (
    block,
    field,
    folded,
    frozen_graph,
    node,
    random_checkpoint,
    shape_message,
    slim_variables,
    tfjs_graph,
    tfjs_layers,
    tflite_model,
    varint,
    write_bundle,
)

from npmnv2 import WeightsError
from npmnv2.weights_tools import (
    graph_def,
    read,
    tflite_bytes,
    write_keras,
    write_native,
    write_npz,
    write_transformers,
)

VARIANTS = 100
# For a long run: NPMNV2_FUZZ=20000 pytest -m slow tests/weights_tools/test_fuzz.py -k many
MANY_VARIANTS = int(os.environ.get("NPMNV2_FUZZ", "750"))
# CPU time, child processes included, so that a busy machine changes nothing.
MOST_SECONDS = 1
# Beside twenty times the file.
MOST_BYTES = 256 << 20

# Lengths, offsets and counts that are wrong in interesting ways.
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, 1 << 63]


def _bundle(folder: Path) -> Path:
    return write_bundle(folder / "model.ckpt", slim_variables(random_checkpoint()))


def _saved_model(folder: Path) -> Path:
    write_bundle(folder / "saved" / "variables" / "variables", slim_variables(random_checkpoint()))
    (folder / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder / "saved"


def _file(name, content):
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return write


def _archive() -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("labels.txt", "cat\ndog\nbird\n")
    return buffer.getvalue()


def _writer(name, write):
    def write_to(folder: Path) -> Path:
        write(random_checkpoint(labels=("a", "b", "c")), folder / name)
        return folder / name

    return write_to


def _torchvision(folder: Path) -> Path:
    from weight_files import save_torchvision

    save_torchvision(folder / "model.safetensors", random_checkpoint())
    return folder / "model.safetensors"


def detector_graph() -> bytes:
    """A frozen detector with all the settings that are read of one."""
    checkpoint = random_checkpoint("detection")
    settings = [*resize(64, 64), *preparation(), *scores(), *coder(), *anchors(checkpoint.config), *suppression(2, 2)]
    return frozen_graph(checkpoint) + b"".join(settings)


def _quantized_native(folder: Path) -> Path:
    write_native(quantized_checkpoint("int8"), folder / "model.h5")
    return folder / "model.h5"


FORMATS = {
    "tf-checkpoint": _bundle,
    "saved-model": _saved_model,
    "graph-def": _file("graph.pb", lambda: frozen_graph(random_checkpoint())),
    "tflite": _file("model.tflite", lambda: tflite_model(folded(random_checkpoint()), trailer=_archive())),
    "transformers": _writer("directory", write_transformers),
    "torchvision": _torchvision,
    "npz": _writer("model.npz", write_npz),
    "native": _writer("model.h5", write_native),
    "keras": _writer("keras.h5", write_keras),
    "graph-def of a detector": _file("graph.pb", detector_graph),
    "tfjs graph": lambda folder: tfjs_graph(folder / "graph", random_checkpoint("detection")),
    "tfjs layers": lambda folder: tfjs_layers(folder / "layers", random_checkpoint(), "float16"),
    "quantized tflite": _file("model.tflite", lambda: tflite_bytes(quantized_checkpoint("int8"))),
    "quantized segmenter": _file(
        "model.tflite", lambda: tflite_bytes(quantized_checkpoint("uint8", task="segmentation", output_stride=16))
    ),
    "quantized native": _quantized_native,
}


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """One of seven kinds of damage, half of the time near the beginning or the end, where structure is."""
    out = bytearray(data)

    def place() -> int:
        span = min(len(out), 4096)
        kind = rng.integers(4)
        low, high = [(0, span), (len(out) - span, len(out)), (0, len(out)), (0, len(out))][kind]
        return int(rng.integers(low, max(high, low + 1)))

    kind, at = int(rng.integers(7)), place()
    if kind == 0:
        del out[at:]
    elif kind == 1:
        for _ in range(int(rng.integers(1, 9))):
            if out:
                out[min(place(), len(out) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        width = int(rng.choice([1, 2, 4, 8]))
        value = EXTREMES[int(rng.integers(len(EXTREMES)))] & ((1 << 8 * width) - 1)
        out[at : at + width] = value.to_bytes(width, "little")
    elif kind == 3:
        del out[at : at + int(rng.integers(1, 64))]
    elif kind == 4:
        out[at:at] = rng.bytes(int(rng.integers(1, 64)))
    elif kind == 5:
        length, other = int(rng.integers(1, 512)), place()
        out[at : at + length] = out[other : other + length]
    else:
        out[at : at + int(rng.integers(1, 512))] = bytes(int(rng.integers(1, 512)))
    return bytes(out)


def limit_memory(size: int) -> Iterator[None]:
    """Make every allocation fail that would take this process beyond what it has now, `MOST_BYTES`, and 20 × `size`."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES + 20 * size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture
def little_memory() -> Iterator[None]:
    """The limit for files of 200 kB and less, as all here are but the one whose tensors share their bytes."""
    yield from limit_memory(0)


def refusal(path: Path) -> str | None:
    """What the reader says of a file, None if it reads it. Other errors than these are failures."""
    try:
        read(path)
    except WeightsError as error:
        return str(error)
    return None


def cpu_seconds() -> float:
    """CPU time of this process and of the children that have ended."""
    return sum(os.times()[:4])


def fuzz(kind: str, folder: Path, variants: int, seed: int) -> tuple[int, int, float]:
    """Read damaged variants; returns how many loaded, how many were refused, and the longest CPU time of one."""
    rng = np.random.default_rng(seed)
    path = FORMATS[kind](folder)
    files = {file: file.read_bytes() for file in sorted(path.parent.rglob("*")) if file.is_file()}
    read(path)
    loaded = refused = 0
    longest = 0.0
    for number in range(variants):
        file = list(files)[number % len(files)]
        file.write_bytes(damage(files[file], rng))
        start = cpu_seconds()
        message = refusal(path)
        longest = max(longest, cpu_seconds() - start)
        assert longest < MOST_SECONDS, number
        assert message is None or str(folder) in message, number
        refused += message is not None
        loaded += message is None
        file.write_bytes(files[file])
    return loaded, refused, longest


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(tmp_path: Path, little_memory, kind) -> None:
    loaded, refused, _ = fuzz(kind, tmp_path, VARIANTS, seed=0)
    assert refused > VARIANTS / 5
    assert loaded + refused == VARIANTS


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("kind", FORMATS)
def test_many_more_damaged_files(tmp_path: Path, little_memory, kind) -> None:
    before = peak_bytes()
    loaded, refused, longest = fuzz(kind, tmp_path, MANY_VARIANTS, seed=1)
    assert loaded + refused == MANY_VARIANTS
    found = {"file": kind, "variants": MANY_VARIANTS, "refused": refused, "loaded": loaded}
    # benchmarks/fuzz.py reads this line.
    print(json.dumps({**found, "longest_s": round(longest, 2), "memory_mib": (peak_bytes() - before) >> 20}))


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    return pytest.importorskip("resource").getrusage(pytest.importorskip("resource").RUSAGE_SELF).ru_maxrss << 10


# --- damage by intent ---------------------------------------------------------------------------------------


def test_constants_that_claim_more_than_the_file_has(tmp_path: Path, little_memory) -> None:
    huge = shape_message((1 << 14, 1 << 14))
    tensor = field(1, 1) + field(2, huge) + varint(5 << 3 | 5) + b"\0\0\x80\x3f"
    graph = node("MobilenetV2/Conv/weights", "Const", value=field(8, tensor))
    graph += node("MobilenetV2/Conv/Conv2D", "Conv2D", ["image", "MobilenetV2/Conv/weights"])
    (tmp_path / "graph.pb").write_bytes(graph)
    with pytest.raises(WeightsError, match="more memory to read than a file of"):
        read(tmp_path / "graph.pb")


def test_identities_in_a_circle(tmp_path: Path) -> None:
    graph = node("a", "Identity", ["b"]) + node("b", "Identity", ["a"])
    graph += node("MobilenetV2/Conv/Conv2D", "Conv2D", ["image", "a"]) + node(
        "x", "Identity", ["MobilenetV2/Conv/Conv2D"]
    )
    (tmp_path / "graph.pb").write_bytes(graph)
    with pytest.raises(WeightsError, match="no convolution"):
        read(tmp_path / "graph.pb")


def test_blocks_of_a_table_that_overlap(tmp_path: Path) -> None:
    # A thousand entries of the index that all mean the same block: reading them would multiply the file.
    entries = [(b"%06d" % number, varint(0) + varint(4)) for number in range(1000)]
    blocks = [struct.pack("<I", 0), block(entries)]
    out, places = b"", []
    for each in blocks:
        places.append(varint(len(out)) + varint(len(each)))
        out += each + b"\0" + struct.pack("<I", masked(crc32c(each + b"\0")))
    footer = (places[0] + places[1]).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (tmp_path / "model.ckpt.index").write_bytes(out + footer)
    with pytest.raises(WeightsError, match="blocks overlap"):
        read(tmp_path / "model.ckpt")


def test_tensors_that_share_their_bytes(tmp_path: Path, little_memory) -> None:
    checkpoint = folded(random_checkpoint())
    data = tflite_model(checkpoint)
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    shared = schema.BufferT()
    shared.data = np.zeros(16 << 20, np.uint8)
    model.buffers.append(shared)
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.endswith(b"_expand/kernel"):
            tensor.buffer, tensor.shape = len(model.buffers) - 1, [1 << 11, 1, 1, 1 << 11]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "model.tflite").write_bytes(bytes(builder.Output()))
    del builder, model, shared
    with pytest.raises(WeightsError, match="more memory to read than a file of"):
        read(tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff" * 11, "does not end or exceeds 64 bits"),
        (b"\x0a\xff\xff\xff\xff\x0f", "a field of 4294967295 bytes"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x01" * 20, "bytes are expected"),
        (b"", "no operations"),
    ],
    ids=["overlong", "too long", "group", "number", "empty"],
)
def test_messages_that_are_none(tmp_path: Path, data, words) -> None:
    (tmp_path / "graph.pb").write_bytes(data)
    with pytest.raises(WeightsError, match=words):
        graph_def.read(tmp_path / "graph.pb")


def test_messages_of_very_many_fields(tmp_path: Path, little_memory) -> None:
    (tmp_path / "graph.pb").write_bytes(b"\x0a\x00" * 3_000_000)
    with pytest.raises(WeightsError, match="more work to read than a file of 6,000,000 bytes may"):
        graph_def.read(tmp_path / "graph.pb")


def test_names_of_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "graph.pb").write_bytes(field(1, field(1, "x" * 5000) + field(2, "Const")))
    with pytest.raises(WeightsError, match="a name of 5000 bytes"):
        read(tmp_path / "graph.pb")

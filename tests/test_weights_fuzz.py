"""Damaged files of every format: each either loads or raises WeightsError naming the file, quickly and in
little memory.

A flipped bit among the numbers themselves is no damage that a format without checksums could show, so some
variants load.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from weight_files import (
    folded,
    frozen_graph,
    random_checkpoint,
    slim_variables,
    tflite_model,
    write_bundle,
)

from npmnv2 import WeightsError
from npmnv2.weights_tools import read, write_keras, write_native, write_npz, write_transformers

VARIANTS = 500
MANY_VARIANTS = 5000
MOST_SECONDS = 5
MOST_BYTES = 512 << 20

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
    from test_weights_torch import save_torchvision

    save_torchvision(folder / "model.safetensors", random_checkpoint())
    return folder / "model.safetensors"


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


@pytest.fixture
def little_memory():
    """Make every allocation fail that would take this process beyond what it has now and `MOST_BYTES`."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refusal(path: Path) -> str | None:
    """What the reader says of a file, None if it reads it. Other errors than these are failures."""
    try:
        read(path)
    except WeightsError as error:
        return str(error)
    return None


def fuzz(kind: str, folder: Path, variants: int, seed: int) -> tuple[int, int]:
    """Read damaged variants; returns how many loaded and how many were refused."""
    rng = np.random.default_rng(seed)
    path = FORMATS[kind](folder)
    files = {file: file.read_bytes() for file in sorted(path.parent.rglob("*")) if file.is_file()}
    read(path)
    loaded = refused = 0
    for number in range(variants):
        file = list(files)[number % len(files)]
        file.write_bytes(damage(files[file], rng))
        start = time.perf_counter()
        message = refusal(path)
        assert time.perf_counter() - start < MOST_SECONDS, number
        assert message is None or str(folder) in message, number
        refused += message is not None
        loaded += message is None
        file.write_bytes(files[file])
    return loaded, refused


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(tmp_path: Path, little_memory, kind) -> None:
    loaded, refused = fuzz(kind, tmp_path, VARIANTS, seed=0)
    assert refused > VARIANTS / 5
    assert loaded + refused == VARIANTS


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_many_more_damaged_files(tmp_path: Path, little_memory, kind) -> None:
    loaded, refused = fuzz(kind, tmp_path, MANY_VARIANTS, seed=1)
    assert loaded + refused == MANY_VARIANTS

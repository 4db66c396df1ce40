"""Checkpoints by name: over real HTTP into a real cache."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from detector_graphs import scores, suppression
from faulty_server import FaultyServer, cut, instead, status
from npmnv2.weights_tools.names import slim_name
from npmnv2.weights_tools.transformers import write as write_transformers
from weight_files import frozen_graph, random_checkpoint

from npmnv2.errors import OfflineError, WeightsError
from npmnv2.hub import fetch as checkpoints
from npmnv2.hub import registry
from npmnv2.hub.fetch import cache_info, catalog, clear_cache, download, entry, fetch
from npmnv2.hub.transport import Downloader
from npmnv2.labels import labels_for
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.detection import NonMaxSuppression, SSDConfig
from npmnv2.weights.checkpoint import Checkpoint, initialize
from npmnv2.weights.names import split
from npmnv2.weights.native import read_h5, write_h5

# The smallest that there is.
NAME = "mobilenet_v2_0.35_96_no_top"
URL = entry(NAME).urls[0]
CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=96)


def keras_file(path: Path, seed: int = 0) -> bytes:
    """A file of random weights as Keras would have published it."""
    plan = backbone(CONFIG)
    write_h5(Checkpoint(initialize(plan, CONFIG, seed), "features", CONFIG), path)
    with h5py.File(path, "r+") as file:
        del file.attrs["npmnv2"]
    return path.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    return keras_file(tmp_path_factory.mktemp("keras") / "weights.h5")


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """No switch, no cache of anybody else, and no patience."""
    for name in ("NPMNV2_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    quick = functools.partial(Downloader, first_answer=3, stall=0.3, attempts=3, pause=0.01)
    monkeypatch.setattr(checkpoints, "Downloader", quick)


@pytest.fixture
def mirror(content, monkeypatch):
    """A mirror that has one file."""
    with FaultyServer() as server:
        monkeypatch.setenv("NPMNV2_MIRROR", server.url)
        server.files[at(URL)] = content
        yield server


def at(url: str) -> str:
    """Path of a public URL on a mirror."""
    return "/" + url.removeprefix("https://")


def leftovers(home: Path) -> list[str]:
    """Everything in the cache but finished files, records and empty locks."""
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path.name for path in files if path.suffix not in (".h5", ".json") and path.stat().st_size]


def test_fetch_downloads_once_and_converts(mirror, home, content):
    path = fetch(NAME)
    assert path == home / "keras" / f"{NAME}.h5"
    checkpoint = read_h5(path)
    expected = initialize(backbone(CONFIG), CONFIG, 0)
    assert checkpoint.weights.keys() == expected.keys()
    assert all(np.array_equal(checkpoint.weights[name], expected[name]) for name in expected)
    assert checkpoint.task == "features"
    assert checkpoint.config.image_size == 96
    assert checkpoint.preprocessing == {"preset": "keras", "size": 96}
    assert checkpoint.source["url"] == URL
    assert checkpoint.source["license"] == "Apache-2.0"
    assert fetch(NAME) == path
    assert len(mirror.requests) == 1
    assert leftovers(home) == []
    assert not path.with_suffix(".tmp").exists()


def test_the_record_says_what_was_downloaded(mirror, home, content):
    record = json.loads(fetch(NAME).with_suffix(".json").read_text())
    assert record["files"][0]["url"] == URL
    assert record["files"][0]["bytes"] == len(content)
    assert len(record["files"][0]["sha256"]) == 64


def test_broken_connections_are_survived(mirror, home):
    mirror.plans[at(URL)] = [status(503), cut(200_000)]
    assert read_h5(fetch(NAME)).task == "features"


def test_a_missing_file_says_what_to_do(mirror, home):
    mirror.files.clear()
    with pytest.raises(OfflineError, match="404") as caught:
        fetch(NAME)
    assert f"npmnv2 download {NAME} --dir" in str(caught.value)
    assert leftovers(home) == []
    with pytest.raises(OfflineError, match=r"download mobilenet_v2_1.0_224 --source keras --dir"):
        fetch("mobilenet_v2_1.0_224", source="keras")
    with pytest.raises(OfflineError, match=r"mobilenet_v2_0\.35_96 is the same network from its first publisher"):
        fetch("google/mobilenet_v2_0.35_96")


def test_an_error_page_is_not_taken_for_weights_nor_remembered(mirror, home):
    mirror.plans[at(URL)] = [instead(b"<html>Please log in</html>")]
    with pytest.raises(WeightsError, match=r"what was sent from .* cannot be used and was deleted"):
        fetch(NAME)
    assert [path.suffix for path in (home / "keras").iterdir()] == [".lock"]
    assert fetch(NAME).is_file()


def test_a_cut_file_without_a_length_is_not_taken(mirror, home, content):
    mirror.plans[at(URL)] = [instead(content[: len(content) // 2])]
    with pytest.raises(WeightsError, match="cannot be used"):
        fetch(NAME)
    assert cache_info()["files"] == []


def test_published_digests_are_required(mirror, home):
    wanted = entry("mobilenet_v2_1.4_224")
    mirror.files[at(wanted.urls[0])] = b"something else"
    with pytest.raises(
        WeightsError, match=r"has the wrong sha384 and was deleted: .* instead of fd257f73e8.*, as published"
    ):
        fetch(wanted.name)
    assert leftovers(home) == []


def test_another_file_than_the_first_time_is_an_error(mirror, home, tmp_path, content):
    fetch(NAME)
    clear_cache([NAME])
    mirror.files[at(URL)] = keras_file(tmp_path / "other.h5", seed=1)
    with pytest.raises(
        WeightsError, match=r"the wrong sha256 .* instead of .*, as at the first download, says .*json;"
    ):
        fetch(NAME)
    clear_cache([NAME], forget_digests=True)
    assert fetch(NAME).is_file()


def test_a_damaged_record_is_no_way_around_it(mirror, home):
    record = fetch(NAME).with_suffix(".json")
    clear_cache()
    record.write_text("{}")
    with pytest.raises(WeightsError, match=r"is damaged .* delete it to trust the next download anew"):
        fetch(NAME)


def test_weights_of_another_class_count_are_refused(mirror, home, content):
    named = entry("mobilenet_v2_0.35_96", source="keras")
    mirror.files[at(named.urls[0])] = content
    with pytest.raises(WeightsError, match="instead of 1000"):
        fetch(named.name, source="keras")


# --- every kind of source ----------------------------------------------------------------------------------------


def classifier_checkpoint(classes: int) -> Checkpoint:
    config = CONFIG.replace(num_labels=classes)
    return Checkpoint(initialize(classifier(config), config, 2), "classification", config)


def test_archives_of_tensorflow(mirror, home, tmp_path):
    tf = pytest.importorskip("tensorflow")
    wanted = entry("mobilenet_v2_0.35_96")
    checkpoint = classifier_checkpoint(1001)
    names, values = zip(*((slim_name(*split(name)), array) for name, array in checkpoint.weights.items()))
    values = [value[None, None] if name.endswith("1c_1x1/weights") else value for name, value in zip(names, values)]
    folder = tmp_path / "archive"
    tf.raw_ops.SaveV2(
        prefix=str(folder / f"{wanted.name}.ckpt"),
        tensor_names=[*names, "global_step"],
        shape_and_slices=[""] * (len(names) + 1),
        tensors=[*map(tf.constant, values), tf.constant(1, tf.int64)],
    )
    (folder / f"{wanted.name}_frozen.pb").write_bytes(b"graph")
    with tarfile.open(tmp_path / "weights.tgz", "w:gz") as tar:
        tar.add(folder, ".")
    mirror.files[at(wanted.urls[0])] = (tmp_path / "weights.tgz").read_bytes()

    found = read_h5(fetch(wanted.name))
    assert found.weights.keys() == checkpoint.weights.keys()
    assert all(np.array_equal(found.weights[name], checkpoint.weights[name]) for name in found.weights)
    assert (found.task, found.config.image_size, found.config.depth_multiplier) == ("classification", 96, 0.35)
    assert found.labels == labels_for(1001)
    assert found.preprocessing == {"preset": "slim", "size": 96}
    assert leftovers(home) == []


def test_an_archive_without_a_checkpoint(mirror, home):
    wanted = entry("mobilenet_v2_0.35_96")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme.txt"))
    mirror.files[at(wanted.urls[0])] = buffer.getvalue()
    with pytest.raises(WeightsError, match="holds 0 TensorFlow checkpoints instead of one"):
        fetch(wanted.name)


def test_repositories_of_hugging_face(mirror, home, tmp_path):
    wanted = entry("google/mobilenet_v2_0.35_96")
    checkpoint = classifier_checkpoint(1001)
    write_transformers(checkpoint, tmp_path / "repository")
    for url in wanted.urls:
        mirror.files[at(url)] = (tmp_path / "repository" / url.rpartition("/")[2]).read_bytes()
    path = fetch(wanted.name)
    assert path == home / "huggingface" / "google--mobilenet_v2_0.35_96.h5"
    found = read_h5(path)
    assert all(np.array_equal(found.weights[name], checkpoint.weights[name]) for name in checkpoint.weights)
    assert found.labels == labels_for(1001)
    assert len(json.loads(path.with_suffix(".json").read_text())["files"]) == 3


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index for pip that is a folder, and how to put a package with some weights into it."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def publish(requirement: str, member: str, weights: bytes) -> None:
        name, _, version = requirement.partition("==")
        package, info = member.partition("/")[0], f"{name.replace('-', '_')}-{version}"
        with zipfile.ZipFile(folder / f"{info}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{package}/__init__.py", "raise SystemExit('code of the package ran')")
            wheel.writestr(member, weights)
            wheel.writestr(f"{info}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}.dist-info/RECORD", "")

    return publish


def test_weights_from_a_package(index, home, tmp_path, monkeypatch):
    dogs = entry("dogs19_mobilenet_v2_1.0_160")
    checkpoint = classifier_checkpoint(19)
    write_h5(checkpoint, tmp_path / "dogs.h5")
    weights = (tmp_path / "dogs.h5").read_bytes()
    index(*dogs.wheel, weights)
    with pytest.raises(WeightsError, match=r"the wrong sha256 .* instead of 272e38e5.*, as published"):
        fetch(dogs.name)
    trusted = dataclasses.replace(dogs, digest=f"sha256:{hashlib.sha256(weights).hexdigest()}")
    monkeypatch.setattr(checkpoints, "entry", lambda name, source=None: trusted)
    found = read_h5(fetch(dogs.name))
    assert found.labels == dogs.labels
    assert found.preprocessing == {"preset": "keras", "size": 160}
    assert leftovers(home) == []


def test_a_detector_from_a_package(index, home, monkeypatch):
    """A frozen graph: its settings come from the graph, its labels from the registry."""
    wanted = entry("pedestrian_ssdlite_mobilenet_v2")
    ssd = SSDConfig(nms=NonMaxSuppression(0.3, 0.55))
    checkpoint = random_checkpoint("detection", num_labels=2, ssd=ssd, image_size=300)
    graph = frozen_graph(checkpoint) + b"".join([*scores(), *suppression(3, 1, iou=0.55, score=0.3)])
    index(*wanted.wheel, graph)
    with pytest.raises(WeightsError, match=r"the wrong sha256 .* instead of 7a23982e.*, as published"):
        fetch(wanted.name)
    trusted = dataclasses.replace(wanted, digest=f"sha256:{hashlib.sha256(graph).hexdigest()}")
    monkeypatch.setattr(checkpoints, "entry", lambda name, source=None: trusted)
    found = read_h5(fetch(wanted.name))
    assert (found.task, found.labels, found.config.ssd) == ("detection", ("background", "person"), ssd)
    assert found.preprocessing == {"preset": "ssd", "size": 300}
    assert leftovers(home) == []


@pytest.mark.network
def test_the_pedestrians_of_the_package_index(home):
    found = read_h5(fetch("pedestrian_ssdlite_mobilenet_v2"))
    assert found.weights["BoxPredictor_0_ClassPredictor/kernel"].shape == (1, 1, 576, 6)
    assert (found.labels, found.source["license"]) == (("background", "person"), "MIT")
    assert found.config.ssd == SSDConfig()
    assert [path.name for path in (home / "pypi").iterdir() if path.is_dir()] == []


@pytest.mark.network
def test_the_dogs_of_the_package_index(home):
    found = read_h5(fetch("dogs19_mobilenet_v2_1.0_160"))
    assert found.weights["predictions/kernel"].shape == (1280, 19)
    assert found.config.image_size == 160
    assert found.labels[0] == "Chihuahua"
    assert found.source["license"] == "MIT"
    assert [path.name for path in (home / "pypi").iterdir() if path.is_dir()] == []


# --- offline -----------------------------------------------------------------------------------------------------


def test_offline_says_where_it_looked_and_what_to_do(mirror, home, monkeypatch, tmp_path):
    with pytest.raises(OfflineError, match="local_files_only=True forbids downloading it") as caught:
        fetch(NAME, local_files_only=True)
    message = str(caught.value)
    assert str(home / "keras" / f"{NAME}.h5") in message
    assert str(tmp_path / "keras" / "models") in message
    assert f"npmnv2 download {NAME} --dir" in message
    monkeypatch.setenv("NPMNV2_OFFLINE", "yes")
    with pytest.raises(OfflineError, match="NPMNV2_OFFLINE forbids"):
        fetch("google/mobilenet_v2_1.0_224")
    with pytest.raises(OfflineError, match="NPMNV2_OFFLINE forbids"):
        fetch("dogs19_mobilenet_v2_1.0_160")
    assert mirror.requests == []
    assert not home.exists()


def test_an_offline_error_is_one_error_that_ends_with_what_helps(mirror, home, monkeypatch):
    with pytest.raises(OfflineError) as caught:
        fetch("1.0_96", local_files_only=True)
    assert str(caught.value).splitlines()[1] == "These work offline here: mobilenet_v2_1.0_224_quant."
    fetch(NAME)
    with FaultyServer() as empty:
        monkeypatch.setenv("NPMNV2_MIRROR", empty.url)
        with pytest.raises(OfflineError) as caught:
            fetch("1.0_96")
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback") == 1
    *_, usable, help_line = text.strip().splitlines()
    assert usable == f"These work offline here: {NAME}, mobilenet_v2_1.0_224_quant."
    assert help_line.startswith("What helps: run `npmnv2 download mobilenet_v2_1.0_96 --dir")


def test_what_is_cached_is_served_offline(mirror, home, monkeypatch):
    path = fetch(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(NAME) == path


def test_a_downloaded_directory_serves_as_cache_elsewhere(mirror, home, tmp_path, monkeypatch):
    written = download([NAME], tmp_path / "stick")
    assert not home.exists()
    monkeypatch.setenv("NPMNV2_HOME", str(tmp_path / "stick"))
    assert fetch(NAME, local_files_only=True) == written[NAME]


# --- caches of others -------------------------------------------------------------------------------------------


def test_a_file_that_keras_has_is_used(home, content, tmp_path):
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    (models / URL.rpartition("/")[2]).write_bytes(content)
    assert read_h5(fetch(NAME, local_files_only=True)).task == "features"


def test_a_damaged_file_of_keras_is_ignored(mirror, home, content, tmp_path):
    models = tmp_path / "keras" / "models"
    models.mkdir(parents=True)
    (models / URL.rpartition("/")[2]).write_bytes(content[:5000])
    with pytest.warns(UserWarning, match="is damaged and was ignored"):
        assert fetch(NAME).is_file()
    assert len(mirror.requests) == 1


def test_a_cache_that_cannot_be_written_is_named(mirror, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"the cache .*file/keras cannot be made .*: set NPMNV2_HOME or cache_dir= to"):
        fetch(NAME, cache_dir=tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to: set NPMNV2_HOME"):
        fetch(NAME, cache_dir=tmp_path / "home")
    assert mirror.requests == []


# --- several processes -----------------------------------------------------------------------------------------


def start(home: Path) -> subprocess.Popen[str]:
    code = f"from npmnv2.hub.fetch import fetch; print('ready', flush=True); print(fetch({NAME!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "NPMNV2_HOME": str(home)},
        cwd=home.parent,  # in the repository's root, Python would import the folders there
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_request(server: FaultyServer) -> None:
    deadline = time.monotonic() + 30
    while not server.requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_processes_at_once_share_one_download(mirror, home):
    all_ready = threading.Event()

    def wait_for_the_others(request, content):
        assert all_ready.wait(120)
        instead(content)(request, content)

    mirror.plans[at(URL)] = [wait_for_the_others]
    running = [start(home) for _ in range(3)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 3
    all_ready.set()
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    assert {output.strip() for output, _ in outputs} == {str(home / "keras" / f"{NAME}.h5")}
    assert len(mirror.requests) == 1
    assert leftovers(home) == []


def test_a_killed_download_leaves_nothing_broken(mirror, home):
    mirror.plans[at(URL)] = [mirror.stall(300_000)]
    process = start(home)
    wait_for_request(mirror)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cache_info()["files"] == []
    assert (home / "keras" / f"{NAME}.tmp").is_dir()
    assert read_h5(fetch(NAME)).task == "features"
    assert not (home / "keras" / f"{NAME}.tmp").exists()
    assert leftovers(home) == []


# --- looking and clearing -------------------------------------------------------------------------------------


def test_what_is_cached_is_listed_and_cleared(mirror, home):
    assert cache_info() == {"directory": str(home), "bytes": 0, "files": []}
    assert clear_cache() == 0
    path = fetch(NAME)
    size = path.stat().st_size
    row = {"name": NAME, "source": "keras", "path": str(path), "bytes": size}
    assert cache_info() == {"directory": str(home), "bytes": size, "files": [row]}
    cached = [row["name"] for row in catalog() if row["cached"]]
    assert cached == [NAME, "mobilenet_v2_1.0_224_quant"]
    assert clear_cache(["mobilenet_v2_1.0_224"]) == 0
    assert clear_cache([NAME]) == size
    assert cache_info()["files"] == []
    assert sorted(path.name for path in home.rglob("*.*")) == [f"{NAME}.json", f"{NAME}.lock"]


def test_the_catalog_is_ready_for_json():
    rows = catalog()
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == list(registry.names())
    first = next(row for row in rows if row["name"] == "mobilenet_v2_1.0_224")
    assert first["sources"] == ["tensorflow", "keras"]
    assert first["accuracy"] == {"top-1": 71.8, "top-5": 91.0}
    assert {row["classes"] for row in catalog(source="keras")} == {1000, None}

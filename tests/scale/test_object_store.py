"""Photos and tables in an S3: moto's, on 127.0.0.1."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from npmnv2.scale import listing
from npmnv2.scale.listing import list_photos
from npmnv2.scale.manifest import Output
from npmnv2.scale.run import write_table

server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

# botocore and moto use interfaces of Python that newer versions deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:(boto|moto|werkzeug).*")


@pytest.fixture(scope="module")
def store() -> Iterator[Any]:
    """A server that keeps its objects when it is stopped and started again."""
    running = server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        running._port = port
        yield running
    running.stop()


@pytest.fixture(scope="module")
def bucket(store: Any, photos: Path) -> str:
    fs = s3fs.S3FileSystem()
    fs.mkdir("bucket")
    for path in sorted(photos.rglob("*.png")):
        fs.pipe_file(f"bucket/photos/{path.relative_to(photos)}", path.read_bytes())
    return "s3://bucket"


def test_names_are_listed_in_pages(bucket: str, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_PAGE", 5)
    expected = [f"{bucket}/photos/{path.relative_to(photos)}" for path in sorted(photos.rglob("*.png"))]
    assert list(list_photos([f"{bucket}/photos/**/*.png"])) == expected
    assert list(list_photos([f"{bucket}/photos/1/*"])) == expected[6:]
    assert list(list_photos([f"{bucket}/photos"], recursive=True)) == expected
    with pytest.raises(FileNotFoundError):
        list(list_photos(["s3://nowhere/**/*.png"]))


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_changes_nothing(
    bucket: str, store: Any, model: Any, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, sources = s3fs.S3FileSystem(), [f"{bucket}/photos/**/*.png"]
    summary = write_table(model, sources, f"{bucket}/undisturbed", scheduler=scheduler, part_size=2)
    assert (summary.photos, summary.failed) == (12, 1)
    write, absences = Output.write_part, iter([True])

    def come_back() -> None:
        time.sleep(0.5)
        store.start()

    def and_stop(self: Output, number: int, content: bytes) -> None:
        write(self, number, content)
        if next(absences, False):
            store.stop()
            threading.Thread(target=come_back).start()

    monkeypatch.setattr(Output, "write_part", and_stop)
    write_table(model, sources, f"{bucket}/out", scheduler=scheduler, part_size=2)
    names = [path.rpartition("/")[2] for path in fs.ls(f"{bucket}/undisturbed")]
    assert len([name for name in names if name.startswith("part-")]) == 6
    for name in names:
        if name != "_manifest":
            assert fs.cat_file(f"{bucket}/out/{name}") == fs.cat_file(f"{bucket}/undisturbed/{name}")

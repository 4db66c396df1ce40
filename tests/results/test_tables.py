"""Text of results: percents, JSON, CSV, HTML, and the table of a plan."""

from __future__ import annotations

import csv
import io
import json

import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.network.architecture import classifier
from npmnv2.results.tables import csv_lines, html_figure, json_line, percent, plan_table


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0%"), (1e-9, "<0.1%"), (0.00049, "<0.1%"), (0.0006, "0.1%"), (0.5, "50.0%"), (1.0, "100.0%")],
)
def test_percent(share, text):
    assert percent(share) == text


def test_json_keeps_letters():
    assert json_line({"label": "Bär"}) == '{"label": "Bär"}'
    assert json.loads(json_line({"a": [1, None]})) == {"a": [1, None]}


def test_csv_quotes_and_rounds():
    text = csv_lines(["name", "share"], [["a,b", 1 / 3], ["c", 2]], header=True)
    assert text == 'name,share\n"a,b",0.333333\nc,2\n'
    assert list(csv.reader(io.StringIO(csv_lines(["x"], [["1"]], header=False)))) == [["1"]]


def test_html_escapes_every_text():
    page = html_figure('<b>"', 'data:"><script>', [("<i>", "#00ff00"), ("#nocolor", "#00ff0g")])
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<script>" not in page
    assert page.count("background: #00ff00") == 1
    assert "#00ff0g</td>" in page
    assert "<img" not in html_figure("a", None, [])


def test_table_of_a_plan_adds_up():
    plan = classifier(MobileNetV2Config(num_labels=1001))
    lines = plan_table(plan, 224).splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds"]
    assert len(lines) == len(plan.table(224)) + 2
    assert lines[-1].split()[0] == "total"
    assert lines[-1].split()[-1] == f"{plan.multiply_adds(224):,}"

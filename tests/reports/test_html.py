"""Nothing that is text becomes markup."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from npmnv2.reports.html import Markup, data_uri, join, tag


class Reader(HTMLParser):
    """Collects elements, their attributes and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data) -> None:
        self.text += data


@given(st.text(), st.text())
def test_any_text_survives_as_text(text: str, attribute: str) -> None:
    made = tag("p", tag("b", text), text, title=attribute)
    found = Reader(made)
    encodable = [value.encode("utf-8", "backslashreplace").decode() for value in (text, attribute)]
    assert [name for name, _ in found.tags] == ["p", "b"]
    if "\r" not in text + attribute and "\0" not in text + attribute:
        assert found.text == 2 * encodable[0]
        assert found.tags[0][1]["title"] == encodable[1]


def test_elements() -> None:
    assert tag("br") == "<br>"
    assert tag("img", src="a", alt=None) == '<img src="a">'
    assert tag("i", [1, None, Markup("<b>x</b>"), "<"], class_="c", data_value=2.5) == (
        '<i class="c" data-value="2.5">1<b>x</b>&lt;</i>'
    )
    assert join("a", ["b", ["c"]]) == "abc"
    assert isinstance(join("a"), Markup)


def test_names_that_are_no_unicode_can_be_written() -> None:
    assert tag("p", "caf\udce9.jpg", title="\udce9").encode() == b'<p title="\\udce9">caf\\udce9.jpg</p>'


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_as_text(kind: str) -> None:
    head, _, data = data_uri(Image.new("RGB", (3, 2)), kind).partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as found:
        assert (found.format, found.size) == (kind, (3, 2))

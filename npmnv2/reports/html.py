"""HTML from Python: every text is escaped where it enters, and what is markup already is a type of its own."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from npmnv2.files import printable

if TYPE_CHECKING:
    from PIL import Image


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


Child = str | int | float | None


def tag(name: str, *children: Child | Iterable[Child], **attributes: Child) -> Markup:
    """An element: `children` that are not `Markup` are escaped, as are attributes; None is left out.

    An underscore in an attribute's name is a hyphen, a final one is dropped: ``class_``, ``data_value``.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = "".join(f' {key}="{_text(value)}"' for key, value in given.items())
    content = join(*children)
    return Markup(f"<{name}{opening}>" if name in _EMPTY else f"<{name}{opening}>{content}</{name}>")


_EMPTY = {"img", "br", "meta"}


def join(*children: Child | Iterable[Child]) -> Markup:
    """Several pieces, one after the other."""
    return Markup("".join(_escaped(child) for child in children))


def _escaped(child: Child | Iterable[Child]) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return _text(child) if isinstance(child, (str, int, float)) else join(*child)


def _text(value: str | int | float) -> str:
    # What is no valid Unicode, as some names of files, could not be written.
    return printable(html.escape(str(value)))


def data_uri(picture: Image.Image, kind: str = "PNG") -> str:
    """A picture as text, for the `src` of an image."""
    file = io.BytesIO()
    picture.save(file, kind, **({"quality": 85} if kind == "JPEG" else {"optimize": True}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"

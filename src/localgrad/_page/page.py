"""Films as one HTML file: styles, scripts, libraries and numbers, all inside."""

import base64
import html
import json
import os
import tempfile
import zlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from localgrad._page.film import Film

LIBRARIES = ("cytoscape.min.js", "dagre.min.js", "uPlot.iife.min.js")
SCRIPTS = (
    "film", "colours", "folding", "layout", "settle", "looks", "painter", "stage", "clock", "curve",
    "card", "find", "keys", "main",
)  # fmt: skip
MANTISSA = 10
"""Bits of a number's mantissa that are kept: three decimal digits."""


def page(films: Sequence[Film], title: str) -> str:
    """The text of the page that shows one film, or two beside each other."""
    here = files(__name__.rpartition(".")[0])

    def read(name: str) -> str:
        return here.joinpath(*name.split("/")).read_text(encoding="utf-8")

    store = _Store()
    story = {"title": title, "films": [_described(film, store) for film in films]}
    parts = {
        "title": html.escape(title),
        "style": read("vendor/uPlot.min.css") + read("wave.css"),
        "libraries": "".join(_script(read(f"vendor/{name}")) for name in LIBRARIES),
        "scripts": "".join(_script(read(f"js/{name}.js")) for name in SCRIPTS),
        "story": _packed(json.dumps(story, allow_nan=False).encode()),
        "numbers": _packed(bytes(store.content)),
    }
    head, *rest = read("wave.html").split("{{")
    text = [head]
    for piece in rest:
        name, _, after = piece.partition("}}")
        text += [parts[name], after]
    return "".join(text)


def save(text: str, path: Path) -> Path:
    """Write a file in one go: who reads it meanwhile has the old one, or none."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


class _Store:
    """Arrays one after the other, described by where they start."""

    def __init__(self) -> None:
        self.content = bytearray()

    def put(self, array: np.ndarray) -> dict[str, Any]:
        """Add an array; its numbers' first bytes come first, then their second ones, and so on.

        Beside each other they are alike, and can be packed.
        """
        start, raw = len(self.content), np.ascontiguousarray(array)
        kind = raw.dtype.newbyteorder("<")
        planes = raw.astype(kind).reshape(-1).view(np.uint8).reshape(-1, kind.itemsize).T
        self.content += planes.tobytes()
        return {"start": start, "shape": array.shape, "type": raw.dtype.name}


def _described(film: Film, store: _Store) -> dict[str, Any]:
    delivered = None if film.delivered is None else store.put(_rounded(film.delivered).T)
    return {
        "rule": film.rule,
        "times": film.times.tolist(),
        "units": [unit._asdict() for unit in film.units],
        "edges": film.edges,
        "energy": store.put(film.energy.astype(np.float64)),
        "loss": store.put(film.loss.astype(np.float64)),
        "error": store.put(_rounded(film.error).T),
        "change": store.put(_rounded(film.change).T),
        "plastic": store.put(film.plastic.astype(np.uint8).T),
        "delivered": delivered,
    }


def _rounded(array: np.ndarray) -> np.ndarray:
    """In float32, with few digits. What is not zero does not become zero, nor infinite."""
    limits = np.finfo(np.float32)
    with np.errstate(invalid="ignore"):
        size = np.clip(np.abs(array), limits.tiny, limits.max / 2)
    size = np.where(np.isinf(array), np.inf, size)
    single = np.where(array == 0, 0, np.copysign(size, array)).astype(np.float32)
    dropped = np.uint32(23 - MANTISSA)
    bits = single.view(np.uint32)
    half = np.where(np.isfinite(single), np.uint32(1) << (dropped - np.uint32(1)), np.uint32(0))
    return ((bits + half) >> dropped << dropped).view(np.float32)


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _script(text: str) -> str:
    return f"<script>{text}</script>\n"

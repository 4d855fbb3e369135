"""Pictures that carry what is said of them, and the page that is made of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import jax
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from localgrad.experiments.files import replace_bytes, replace_text

STYLE = {
    "figure.facecolor": "white",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.grid": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
"""Readable where 8 inches of figure are 800 pixels of a page."""

WIDTH, DPI = 8.0, 150

Tell = Callable[[str], None]
"""Where a figure that takes a while says what it is at."""

PAGE = """\
# Gallery

What the library shows of learning rules, on the digits of scikit-learn and on MNIST. Every figure
is made of what `lg.record`, `lg.compare`, `lg.audit` and `lg.graph` return, most of it drawn by
`localgrad.plot`, and the numbers below were measured when it was made.

`python docs/gallery/gallery.py` makes all figures and this page. Names after it make only these
figures, `--mnist FOLDER` (the folder of the four gzipped IDX files) adds MNIST, and `--out FOLDER`
writes elsewhere. [problems.py](problems.py) has the networks, [rules.md](../rules.md) says what the
rules do and [figures.md](../figures.md) how to draw what was recorded.
"""


@dataclass(frozen=True)
class Picture:
    """A figure with what the page says of it.

    Attributes:
        figure: The figure.
        title: A few words, the heading.
        setting: Model, data, rule and what else the numbers depend on; whole sentences.
        shows: Two sentences: what is to be seen, and the numbers that were measured.
        data: The names of the data sets that it is made of.
    """

    figure: Figure
    title: str
    setting: str
    shows: str
    data: tuple[str, ...] = ("digits",)


def number(x: float) -> str:
    """A measured number with two digits; an exact zero is 0."""
    if x == 0 or x >= 10:
        return f"{x:.0f}"
    return f"{x:.1e}" if x < 1e-2 else f"{x:#.2g}"


def equality(x: float) -> str:
    """How a gradient equals backpropagation's that differs by `x`, the largest `max_rel`."""
    return "exactly" if x == 0 else f"up to {number(x)} of the largest entry of any parameter"


def save(picture: Picture, name: str, folder: Path) -> Path:
    """Write the picture as ``name.png``, with its text in it: whole or not at all."""
    command = f"python docs/gallery/gallery.py {name}"
    text = {
        "Title": picture.title,
        "Source": f"{command} --mnist FOLDER" if "mnist" in picture.data else command,
        "Comment": f"{picture.setting} JAX {jax.__version__}.",
        "Description": picture.shows,
    }
    drawn, written = BytesIO(), BytesIO()
    picture.figure.savefig(drawn, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.08)
    information = PngInfo()
    for key, value in text.items():
        information.add_text(key, value)
    with Image.open(drawn) as image:
        # 256 colours look the same and take a third of the space.
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(written, "png", optimize=True, dpi=(DPI, DPI), pnginfo=information)
    return replace_bytes(_file(name, folder), written.getvalue())


def write_page(names: Iterable[str], folder: Path) -> Path:
    """Write the page of the pictures that are in the folder."""
    return replace_text(folder / "README.md", page(names, folder))


def page(names: Iterable[str], folder: Path) -> str:
    """The page: each picture that is in the folder with its text, in the order of the names."""
    return "\n".join([PAGE, *(_section(n, folder) for n in names if _file(n, folder).exists())])


def _section(name: str, folder: Path) -> str:
    with Image.open(_file(name, folder)) as image:
        text = image.text
    parts = (
        f"## {text['Title']}",
        f"![{text['Title']}]({name}.png)",
        text["Description"],
        f"```console\n{text['Source']}\n```",
        text["Comment"],
    )
    return "\n\n".join(parts) + "\n"


def _file(name: str, folder: Path) -> Path:
    return folder / f"{name}.png"

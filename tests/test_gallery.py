"""The gallery: its page, its pictures, and the script that makes them."""

import importlib
import os
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from PIL import Image

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parent.parent / "docs" / "gallery"
sys.path.insert(0, str(FOLDER))
gallery, pictures = map(importlib.import_module, ("gallery", "pictures"))
sys.path.remove(str(FOLDER))


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gallery.py", *map(str, arguments)])
    return gallery.main()


def test_the_page_is_the_one_of_the_pictures():
    assert (FOLDER / "README.md").read_text() == pictures.page(gallery.FIGURES, FOLDER)


def test_links_of_the_page_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", (FOLDER / "README.md").read_text())
    assert len(targets) > len(gallery.FIGURES)
    assert [target for target in targets if not (FOLDER / target).exists()] == []


def test_every_picture_has_a_figure_in_the_script_and_every_figure_a_picture():
    assert sorted(path.stem for path in FOLDER.glob("*.png")) == sorted(gallery.FIGURES)


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_a_picture_fits_the_page_and_says_how_it_was_made(name):
    path = FOLDER / f"{name}.png"
    assert path.stat().st_size < 120_000
    with Image.open(path) as image:
        image.load()
        width, height = image.size
        text = image.text
    assert 1000 <= width <= 1300
    assert 300 <= height <= 1400
    command = f"python docs/gallery/gallery.py {name}"
    assert text["Source"] in (command, f"{command} --mnist FOLDER")
    page = (FOLDER / "README.md").read_text()
    assert f"]({name}.png)" in page
    assert f"\n{text['Source']}\n" in page
    assert len(re.findall(r"\.(?=\s|$)", text["Description"])) == 2
    assert re.search(r"\d", text["Description"])
    assert re.search(r"JAX \d+\.\d+", text["Comment"])


def test_a_figure_is_made_with_its_page(monkeypatch, capsys, tmp_path):
    folder = tmp_path / "new"
    assert run(monkeypatch, "audit", "--out", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "audit.png"]
    page = (folder / "README.md").read_text()
    assert page == pictures.page(["audit"], folder)
    assert "Of 6 rules not local: Backprop; told the time or the level: ZIL;" in page
    shown = " ".join(capsys.readouterr().out.split())
    assert "from 2 to 5 green answers of 6" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audits"], "there is no figure 'audits'; choose from zil-wave"),
        (["audit", "--mnist", "nowhere"], "there is no such folder"),
    ],
)
def test_what_cannot_be_made_is_said(monkeypatch, capsys, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, *arguments, "--out", tmp_path)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def drawn(sources, tell):
    tell("a line")
    figure, ax = plt.subplots()
    ax.plot([0, 1])
    return pictures.Picture(figure, "A line", "No model.", "It rises. By 1.")


def interrupted(sources, tell):
    raise KeyboardInterrupt


def test_what_was_finished_before_an_interruption_is_on_the_page(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(gallery, "FIGURES", {"first": drawn, "second": interrupted, "third": drawn})
    assert run(monkeypatch, "--out", tmp_path) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "first.png"]
    page = (tmp_path / "README.md").read_text()
    assert "## A line\n\n![A line](first.png)\n\nIt rises. By 1.\n" in page
    assert "```console\npython docs/gallery/gallery.py first\n```" in page
    assert "Stopped" in capsys.readouterr().out


def test_a_picture_that_cannot_be_written_leaves_the_one_before(monkeypatch, tmp_path):
    picture = drawn(None, print)
    path = pictures.save(picture, "line", tmp_path)
    before = path.read_bytes()

    def full(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        pictures.save(picture, "line", tmp_path)
    plt.close(picture.figure)
    assert [p.name for p in tmp_path.iterdir()] == ["line.png"]
    assert path.read_bytes() == before

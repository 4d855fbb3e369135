"""Studies: cells are kept, reports say what the cells say, and every study can be begun."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localgrad.experiments.environment import environment
from localgrad.experiments.reproduce import (
    STUDIES,
    Scale,
    Setup,
    infinitesimal_limit,
    run_study,
    runner,
)
from localgrad.experiments.reproduce.report import comma_separated, markdown
from localgrad.experiments.reproduce.study import (
    Cell,
    Claim,
    Picture,
    Study,
    Table,
    Verdict,
    verdict,
)

ROOT = Path(__file__).parent.parent
RESULTS = sorted(path.parent for path in ROOT.glob("docs/results/*/run.json"))


def counting(numbers, calls, broken=None):
    """A study whose cells square numbers, and that notes which of them it computes."""

    def square(n):
        calls.append(n)
        if n == broken:
            raise KeyboardInterrupt
        return {"square": n * n, "rooted": float(np.sqrt(n))}

    def cells(setup):
        return [
            Cell(f"n-{n}", {"n": n, "seed": setup.seed}, lambda n=n: square(n)) for n in numbers
        ]

    def table(setup, results):
        rows = [[key, found["square"], found["rooted"]] for key, found in results.items()]
        return [Table("squares", "Squares", ["cell", "square", "root"], rows)]

    def draw(figure):
        figure.subplots().plot(numbers)

    def claim(setup, results):
        worst = max(found["square"] for found in results.values())
        return [Claim("Squares are small", "nobody", verdict(worst < 10), f"up to {worst}")]

    return Study(
        name="squares",
        title="Squares",
        source="Nobody.",
        about="Squares of numbers.",
        cells=cells,
        tables=table,
        pictures=lambda setup, results: [Picture("line", "A line.", draw)],
        claims=claim,
    )


QUICK = Setup(Scale.QUICK)


def finished(study, folder, setup=QUICK):
    return list(run_study(study, setup, folder, "localgrad reproduce squares --quick"))


def test_the_report_has_everything(tmp_path):
    done = finished(counting([1, 2], []), tmp_path)
    assert [(one.cell.key, one.number, one.of, one.kept) for one in done] == [
        ("n-1", 1, 2, False),
        ("n-2", 2, 2, False),
    ]
    page = (tmp_path / "README.md").read_text()
    assert "| Squares are small | nobody | reproduced | up to 4 |" in page
    assert "localgrad reproduce squares --quick" in page
    assert (tmp_path / "squares.csv").read_text().splitlines()[2] == f"n-2,4,{2**0.5}"
    assert (tmp_path / "squares.md").read_text() in page + "\n"
    assert (tmp_path / "line.png").read_bytes().startswith(b"\x89PNG")
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["study"] == "squares"
    assert {"scale", "seed", "command", "seconds"} < set(run)
    assert run["environments"] == [environment()]
    assert f"cpu; Python {environment()['python']}" in page
    assert not list(tmp_path.rglob(".*"))


def test_a_study_goes_on_where_it_was_stopped(tmp_path):
    calls = []
    with pytest.raises(KeyboardInterrupt):
        finished(counting([1, 2, 3], calls, broken=3), tmp_path)
    assert not (tmp_path / "README.md").exists()
    done = finished(counting([1, 2, 3], calls), tmp_path)
    assert calls == [1, 2, 3, 3]
    assert [one.kept for one in done] == [True, True, False]
    assert "| reproduced | up to 9 |" in (tmp_path / "README.md").read_text()


def test_a_cell_with_other_settings_is_computed_again(tmp_path):
    calls = []
    finished(counting([1], calls), tmp_path)
    finished(counting([1], calls), tmp_path)
    assert calls == [1]
    finished(counting([1], calls), tmp_path, Setup(Scale.QUICK, seed=1))
    assert calls == [1, 1]


def test_a_cell_on_other_data_is_computed_again(tmp_path, monkeypatch):
    calls = []
    study = counting([1], calls)
    one = study.cells(QUICK)[0]
    reading = replace(study, cells=lambda _: [replace(one, settings={"data": "digits"})])
    for content in ("some", "some", "other"):
        monkeypatch.setattr(runner, "_fingerprint", lambda *_, content=content: content)
        finished(reading, tmp_path)
    assert calls == [1, 1]


def test_the_page_names_every_machine_that_a_cell_was_computed_on(tmp_path):
    finished(counting([1, 2], []), tmp_path)
    path = tmp_path / "cells" / "n-1.json"
    kept = json.loads(path.read_text())
    kept["environment"]["devices"] = ["NVIDIA H200"]
    path.write_text(json.dumps(kept))
    finished(counting([1, 2], []), tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "\nNVIDIA H200; Python" in page
    assert "\ncpu; Python" in page


def test_claims_can_fail(tmp_path):
    finished(counting([4], []), tmp_path)
    assert "| not reproduced | up to 16 |" in (tmp_path / "README.md").read_text()


def test_tables_show_numbers_and_gaps():
    table = Table("t", "", ["name", "x", "y"], [["a|b", 1.23456e-7, None], ["c", np.inf, 12]])
    assert markdown(table).splitlines() == [
        "| name | x | y |",
        "| --- | ---: | ---: |",
        r"| a\|b | 1.235e-07 |  |",
        "| c | inf | 12 |",
    ]
    assert comma_separated(table) == "name,x,y\na|b,1.23456e-07,\nc,inf,12\n"


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_can_be_begun(name, scale):
    cells = STUDIES[name].cells(Setup(scale, folder="data"))
    keys = [cell.key for cell in cells]
    assert len(keys) == len(set(keys)) > 1
    assert all(re.fullmatch(r"[\w.+-]+", key) for key in keys)
    assert json.loads(json.dumps([dict(cell.settings) for cell in cells]))
    assert "data" not in {value for cell in cells for value in map(str, cell.settings.values())}


@pytest.mark.long
def test_a_real_study(tmp_path, monkeypatch):
    monkeypatch.setattr(infinitesimal_limit, "STEPS", 200)
    monkeypatch.setattr(infinitesimal_limit, "DTYPES", ("float64",))
    monkeypatch.setattr(infinitesimal_limit, "NUDGES", (0.1, 0.01))
    one = replace(infinitesimal_limit.STUDY, pictures=lambda *_: [], claims=lambda *_: [])
    done = finished(replace(one, tables=lambda *_: []), tmp_path)
    worst = [max(found.result["max_rel"].values()) for found in done]
    assert worst[1] < 0.2 * worst[0]


def test_fashion_mnist_is_trained_on_where_it_is_given(tmp_path):
    study, published = STUDIES["song-2020"], ROOT / "docs" / "results" / "song-2020-default"
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    setup = Setup(folder=str(tmp_path))
    results = {}
    for cell in study.cells(setup):
        is_fashion = cell.key.startswith("training-fashion-mnist-")
        assert cell.settings.get("data", "mnist") == ("fashion-mnist" if is_fashion else "mnist")
        kept = published / "cells" / f"{cell.key.replace('fashion-', '')}.json"
        results[cell.key] = json.loads(kept.read_text())["result"]
        if is_fashion:
            results[cell.key]["accuracy"] = np.zeros((5, 5)).tolist()
            results[cell.key]["backprop"] = np.ones((5, 5)).tolist()
    *_, mnist, _, fashion, _ = study.tables(setup, results)
    assert mnist.rows[0][2] != fashion.rows[0][2] == "100.00 +- 0.00"
    assert fashion.rows[0][3] == "0.00 +- 0.00"
    *_, mnist, _, fashion, _ = study.pictures(setup, results)
    assert [mnist.name, fashion.name] == ["training-mnist-2", "training-fashion-mnist-2"]
    texts = [claim.text for claim in study.claims(setup, results)]
    assert sum("Trained on fashion-mnist" in text for text in texts) == 2


@pytest.mark.matrix
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_at_its_quick_scale(name, tmp_path):
    finished(STUDIES[name], tmp_path)
    assert "| claim |" in (tmp_path / "README.md").read_text()


OF_THE_MACHINE = dict.fromkeys(("device", "cores", "text"))
"""Settings that differ between machines and versions of Python; not all studies have them."""


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_published_pages_say_what_their_cells_say(folder):
    run = json.loads((folder / "run.json").read_text())
    study, setup = STUDIES[run["study"]], Setup(Scale(run["scale"]), "data", seed=run["seed"])
    results = {}
    for cell in study.cells(setup):
        kept = json.loads((folder / "cells" / f"{cell.key}.json").read_text())
        settings = json.loads(json.dumps(dict(cell.settings)))
        assert settings | OF_THE_MACHINE == kept["settings"] | OF_THE_MACHINE
        results[cell.key] = kept["result"]
    page = (folder / "README.md").read_text()
    for table in study.tables(setup, results):
        assert markdown(table) in page
    for claim in study.claims(setup, results):
        measured = claim.measured.replace("|", "\\|")
        assert f"| {claim.verdict.value} | {measured} |" in page
    tables = [table.name for table in study.tables(setup, results)]
    files = {f"{name}.{kind}" for name in tables for kind in ("md", "csv")}
    files |= {f"{picture.name}.png" for picture in study.pictures(setup, results)}
    assert {path.name for path in folder.iterdir()} == files | {"README.md", "run.json", "cells"}
    assert {path.stem for path in (folder / "cells").iterdir()} == set(results)


def test_the_index_of_the_results_says_what_their_pages_say():
    rows = []
    for folder in RESULTS:
        run = json.loads((folder / "run.json").read_text())
        page = (folder / "README.md").read_text()
        counts = [str(page.count(f"| {v.value} |")) for v in Verdict]
        link = f"[`{run['study']}`]({folder.name}/README.md)"
        rows.append(f"| {link} | {run['scale']} | {run['seconds']:.0f} s | {' | '.join(counts)} |")
    index = (ROOT / "docs" / "results" / "README.md").read_text()
    assert [line for line in index.splitlines() if line.startswith("| [")] == rows

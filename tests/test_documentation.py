"""What the documentation shows runs, and says what is true."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

import localgrad as lg
from localgrad.experiments.reproduce import STUDIES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("docs/**/*.md")])
PUBLIC = [getattr(lg, name) for name in lg.__all__]


RUNNING = [
    *(f"docs/{name}.md" for name in ("data", "how-it-works", "own-rules")),
    *(
        pytest.param(p, marks=pytest.mark.long)
        for p in ("README.md", "docs/models.md", "docs/training.md")
    ),
]
"""Pages whose blocks of Python run; those of other pages run in the tests of what they show."""


@pytest.mark.parametrize("page", RUNNING)
def test_blocks_run(page, tmp_path, monkeypatch):
    """The blocks build on each other, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
    assert len(blocks) >= (5 if page == "README.md" else 1)
    scope = {}
    for block in blocks:
        exec(compile(block, page, "exec"), scope)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_examples_in_docstrings(thing):
    assert thing.__doc__
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for test in finder.find(thing, thing.__name__, globs={"lg": lg}):
        runner.run(test)
    assert runner.failures == 0


def test_every_public_function_has_an_example():
    functions = [thing for thing in PUBLIC if inspect.isfunction(thing)]
    assert lg.record in functions
    assert [f.__name__ for f in functions if ">>> " not in f.__doc__] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / target).exists(), target


def test_every_rule_is_in_the_documentation():
    rules = [
        t for t in PUBLIC if isinstance(t, type) and issubclass(t, lg.Rule) and t is not lg.Rule
    ]
    for page in ("README.md", "docs/rules.md"):
        text = (ROOT / page).read_text()
        assert all(rule.__name__ in text for rule in rules)


def test_every_study_is_in_the_documentation():
    text = (ROOT / "docs" / "reproduce.md").read_text()
    assert re.findall(r"^\| `([a-z][\w-]+)` \|", text, re.M) == sorted(STUDIES)

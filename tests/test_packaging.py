"""What is shipped, how large it is, and what it must not touch."""

import ast
import io
import subprocess
import sys
import tokenize
import tomllib
import venv
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import localgrad as lg

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "src" / "localgrad"
OUTSIDE_THE_LIBRARY = {
    "cli", "experiments", "plot", "__main__.py", "_page", "equinox.py", "flax.py", "_marks.py",
}  # fmt: skip
MAX_LINES_OF_CODE = 4500
MAX_LINES_OF_A_FILE = 300


def lines_of_code(source):
    """The logical lines, however many physical ones they take, without docstrings."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    logical = sum(token.type == tokenize.NEWLINE for token in tokens)
    docstrings = sum(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for node in ast.walk(ast.parse(source))
    )
    return logical - docstrings


def test_lines_of_code_are_logical_lines():
    source = (
        '"""Doc\nstring."""\n\n# comment\nx = (\n    1,  # one\n\n    2,\n)\nif x:\n    y = x\n'
    )
    assert lines_of_code(source) == 3


def test_the_library_stays_small():
    files = {path.relative_to(LIBRARY): path for path in LIBRARY.rglob("*.py")}
    counts = {name: lines_of_code(path.read_text()) for name, path in files.items()}
    library = [n for name, n in counts.items() if name.parts[0] not in OUTSIDE_THE_LIBRARY]
    assert sum(library) < MAX_LINES_OF_CODE, sum(library)
    assert max(counts.values()) <= MAX_LINES_OF_A_FILE, counts


def test_nothing_private_to_jax_is_used():
    private = "jax." + "_src"
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    assert [path for path in files if private in path.read_text()] == []


def test_the_version_has_one_value():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert lg.__version__ == declared == version("localgrad")


def test_the_library_depends_on_jax_alone():
    unconditional = [r for r in requires("localgrad") if "extra ==" not in r]
    assert [r.partition(">")[0] for r in unconditional] == ["jax"]


@pytest.mark.wheel
def test_the_wheel_installs_into_an_empty_environment(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "localgrad/py.typed" in names
    assert "localgrad/_page/wave.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert sum(name.endswith(".LICENSE") and "licenses/" in name for name in names) == 3
    assert all(name.startswith(("localgrad/", "localgrad-")) for name in names)

    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "-qq", "-c", constraints, wheel], check=True)
    program = (
        "import jax, localgrad as lg; "
        "assert lg.grad(lambda x: x * x)(3.0) == 6.0; print(lg.__version__)"
    )
    imported = subprocess.run(
        [python, "-W", "error", "-c", program], check=True, capture_output=True, text=True
    )
    assert imported.stdout.strip() == lg.__version__
    command = subprocess.run([python, "-m", "localgrad"], capture_output=True, text=True)
    assert command.returncode == 1
    assert "pip install 'localgrad[cli]'" in command.stderr

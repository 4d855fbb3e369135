"""The command line: what it prints, its exit codes, its messages."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import jax
import pytest

import localgrad as lg
from localgrad.cli.app import run
from localgrad.cli.options import parse

QUICK = ["--hidden", "16", "--epochs", "2", "--batch-size", "128"]

USER_MODULE = """
import jax.numpy as jnp

def problem():
    def loss(params, x):
        return jnp.sum(jnp.tanh(params["w"] * x) + params["b"])
    return loss, ({"w": jnp.ones(3), "b": jnp.ones(())}, jnp.arange(3.0))

def vector():
    return (lambda w: w), (jnp.ones(3),)

def forgetful():
    return 3

def broken():
    raise RuntimeError("no data")
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module of the user's in the current directory."""
    (tmp_path / "mine.py").write_text(USER_MODULE)
    (tmp_path / "unimportable.py").write_text("import missing_dependency")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("mine", None)


def localgrad(*arguments):
    """Start ``python -m localgrad`` with warnings as errors."""
    # Equinox on JAX 0.8 reads these names when it is imported.
    names = ("mapped_aval", "unmapped_aval")
    old = [f"-Wignore:jax.core.{name} is deprecated:DeprecationWarning" for name in names]
    return subprocess.Popen(
        [sys.executable, "-Werror", *old, "-m", "localgrad", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )


def refused(arguments, capsys):
    """Run a command that should fail; returns its exit code and its message."""
    code = run(arguments)
    message = capsys.readouterr().err
    assert re.search(r"^localgrad: .+\n  where: .+\n  what to do: .+\n\Z", message, re.M), message
    return code, message


def test_training_reports_accuracy_times_and_comparison(capsys):
    assert run(["train", *QUICK]) == 0
    printed = capsys.readouterr()
    assert "epoch 2/2  loss" in printed.err
    assert "mlp trained by zil: 22 of 22 steps" in printed.out
    assert re.search(r"test accuracy: \d+\.\d\d%", printed.out)
    assert re.search(r"seconds per step: zil 0\.\d+, backpropagation 0\.\d+, ratio", printed.out)
    assert "| .layers[1].weight | 10x16" in printed.out
    assert max(len(line) for line in printed.out.splitlines() if "|" in line) <= 80


def test_a_piped_training_prints_plain_text():
    with localgrad("train", "--rule", "backprop", *QUICK) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "mlp trained by backprop" in out
    assert "\x1b" not in out + err


def test_ctrl_c_reports_what_was_reached():
    with localgrad("train", "--epochs", "100000", "--hidden", "8") as process:
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert first.startswith("epoch 1/100000")
    assert process.returncode == 130
    assert re.search(r"[\d,]+ of 4,400,000 steps", out)
    assert "test accuracy" in out
    assert "Traceback" not in err
    assert err.endswith("localgrad: stopped by Ctrl-C\n")


def test_compare_a_built_in_model(capsys):
    assert run(["compare", "--model", "cnn", "--hidden", "4"]) == 0
    printed = capsys.readouterr().out
    assert "Gradient by zil against backpropagation" in printed
    assert ".convolutions[0].weight" in printed


def test_compare_tells_what_has_not_converged(capsys):
    arguments = ["--hidden", "4", "--rule", "ar", "--steps", "3", "--rate", "0.5"]
    assert run(["compare", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "3 steps, depth " in printed
    assert "warning: " in printed
    assert "part" in printed
    assert max(map(len, printed.partition("warning")[0].splitlines())) <= 80


@pytest.mark.usefixtures("user_module")
def test_compare_the_users_function(capsys):
    assert run(["compare", "mine:problem", "--rule", "zil"]) == 0
    printed = capsys.readouterr().out
    assert "['w']" in printed
    assert "scalar" in printed


@pytest.mark.usefixtures("user_module")
@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["train", "--rule", "zli"], 2, ["no rule 'zli'", "--rule zli", "did you mean 'zil'?"]),
        (["train", "--model", "mpl"], 2, ["no model 'mpl'", "did you mean 'mlp'?", "cnn, gru"]),
        (["train", "--epochs", "0"], 2, ["epochs must be at least 1"]),
        (["train", "--batch-size", "9999"], 2, ["choose a batch size from 1 to 1437"]),
        (["train", "--learning-rate", "1e30", *QUICK], 1, ["diverged", "lower the learning rate"]),
        (["compare", "mine"], 2, ["'mine' does not name a function", "package.module:function"]),
        (["compare", "mime:problem"], 2, ["no module 'mime'", "did you mean 'mine'?"]),
        (["compare", "jax.numpi:f"], 2, ["no module 'jax.numpi'", "did you mean 'jax.numpy'?"]),
        (["compare", "mine:problme"], 2, ["no function 'problme'", "did you mean 'problem'?"]),
        (["compare", "mine:problem", "--model", "mlp"], 2, ["cannot go together"]),
        (["compare", "mine:forgetful"], 1, ["did not return (loss_fn, args)", "type int"]),
        (["compare", "mine:broken"], 1, ["RuntimeError: no data", "mine.py:16, in broken"]),
        (["compare", "unimportable:f"], 1, ["missing_dependency", "unimportable.py:1"]),
    ],
)
def test_messages_say_what_where_and_what_to_do(arguments, code, parts, capsys):
    got, message = refused(arguments, capsys)
    assert got == code
    for part in parts:
        assert part in message


@pytest.mark.usefixtures("user_module")
def test_a_function_without_a_gradient_fails(capsys):
    assert run(["compare", "mine:vector"]) == 1
    message = capsys.readouterr().err
    assert "the comparison failed with TypeError" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train", "--epoch", "3"]])
def test_wrong_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(arguments)
    assert stopped.value.code == 2
    assert "train" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_shows_defaults_and_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        run([command, "--help"])
    assert stopped.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Example: localgrad {command}" in printed
    assert "(default: zil)" in printed
    assert "mlp|cnn|gru|residual|transformer" in printed


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        run(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"localgrad {version('localgrad')}\n"


def test_the_fields_of_any_exported_rule_are_options(monkeypatch, capsys):
    @dataclass(frozen=True)
    class Relaxing(lg.Rule):
        name: ClassVar[str] = "relaxing"
        steps: int = 8
        """How often the units relax."""
        rate: float | jax.Array = 0.1

        def __post_init__(self):
            if self.steps < 1:
                raise ValueError("steps must be positive")

    monkeypatch.setattr(lg, "Relaxing", Relaxing, raising=False)
    options = parse(["train", "--rule", "relaxing", "--rate", "0.5", "--steps", "3"])
    assert options.rule == "relaxing"
    assert options.rule_fields == Relaxing(steps=3, rate=0.5)
    assert parse(["compare", "--rule=relaxing"]).rule_fields == Relaxing()

    with pytest.raises(SystemExit) as stopped:
        parse(["train", "--rule", "relaxing", "--steps", "0"])
    assert stopped.value.code == 2
    assert "steps must be positive" in capsys.readouterr().err

    with pytest.raises(SystemExit):
        parse(["train", "--rule", "relaxing", "--help"])
    assert "How often the units relax. (default: 8)" in capsys.readouterr().out


def test_missing_extras_are_named():
    program = (
        "import sys; sys.modules['tyro'] = None; from localgrad.__main__ import main; "
        "sys.exit(main())"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr == (
        "localgrad: the command line needs tyro, which is not installed; "
        "install it with: pip install 'localgrad[cli]'\n"
    )

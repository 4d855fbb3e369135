"""The command line: what it prints, its exit codes, its messages."""

import dataclasses
import json
import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import jax
import pytest

import localgrad as lg
from localgrad.cli import app, progress, trace
from localgrad.cli.app import COMMANDS, run
from localgrad.cli.audit import Options as Audit
from localgrad.cli.compare import Options as Compare
from localgrad.cli.options import parse
from localgrad.cli.rules import rules
from localgrad.cli.trace import Options as Trace
from localgrad.cli.train import Options as Train
from localgrad.experiments.models import MODELS
from localgrad.experiments.reproduce import STUDIES
from localgrad.experiments.reproduce.study import Cell, Claim, Study, Verdict
from localgrad.experiments.training import read_metrics

QUICK = ["--hidden", "8", "--epochs", "2", "--batch-size", "256"]

USER_MODULE = '''
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np

import localgrad as lg


def problem():
    """Two layers with marks."""
    def loss(params, x):
        x = jnp.tanh(lg.vertex(x @ params["w"], "h0"))
        return jnp.sum(lg.vertex(x @ params["w"], "h1") ** 2) + params["b"]
    return loss, ({"w": jnp.eye(3), "b": jnp.ones(())}, jnp.arange(3.0))

def large():
    def loss(ws, x):
        for k, w in enumerate(ws):
            x = jnp.tanh(lg.vertex(x @ w, f"h{k}"))
        return jnp.sum(x**2)
    return loss, ([jnp.ones((300, 300)) / 300] * 3, jnp.ones((300, 300)))

def diverging():
    def loss(w, x):
        return jnp.sum(lg.vertex(lg.vertex(x @ w, "low") ** 3, "high") ** 2)
    return loss, (3 * jnp.eye(3), jnp.ones((2, 3)))

def network(shape, classes, key):
    w = jnp.zeros((shape[1] * shape[2], classes))
    return w, lambda w, x: x.reshape(len(x), -1) @ w

def too_small(shape, classes, key):
    return jnp.zeros((4, classes)), lambda w, x: x.reshape(len(x), -1) @ w

def vector():
    return (lambda w: w), (jnp.ones(3),)

def forgetful():
    return 3

def broken():
    raise RuntimeError("no data")

def singular():
    return np.linalg.inv(np.zeros((2, 2)))

def misshapen():
    def loss(w):
        return jnp.sum(w @ jnp.ones((5, 2)))
    return loss, (jnp.ones(3),)

def branching():
    def loss(w):
        return w[0] if w[0] > 0 else -w[0]
    return loss, (jnp.ones(3),)

def interrupting():
    def loss(w):
        os.kill(os.getpid(), signal.SIGINT)
        return jnp.sum(w)
    return loss, (jnp.ones(3),)

def looping(shape, classes, key):
    def apply(w, x):
        return jax.lax.while_loop(lambda y: jnp.sum(y) < 0, jnp.exp, x.reshape(len(x), -1) @ w)
    return jnp.zeros((shape[1] * shape[2], classes)), apply

def narrow(shape, classes, key):
    def apply(w, x):
        if len(x) > 16:
            raise RuntimeError("too many at once")
        return x.reshape(len(x), -1) @ w
    return jnp.zeros((shape[1] * shape[2], classes)), apply
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of the user's, to work in."""
    (tmp_path / "mine.py").write_text(USER_MODULE)
    (tmp_path / "unimportable.py").write_text("import missing_dependency")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine", None)


@pytest.fixture
def terminal(monkeypatch):
    """Outputs take themselves for a terminal of 80 columns."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")


def start(*arguments, limit="true", **options):
    """Start ``python -m localgrad`` with warnings as errors, under a limit that the shell sets."""
    # Equinox on JAX 0.8 reads these names when it is imported.
    names = ("mapped_aval", "unmapped_aval")
    old = [f"-Wignore:jax.core.{name} is deprecated:DeprecationWarning" for name in names]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-Werror", *old, "-m", "localgrad", *arguments]
    return subprocess.Popen(
        ["sh", "-c", f'{limit} && exec "$@"', "sh", *command],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        **(pipes | options),
    )


def refused(arguments, capsys):
    """Run a command that should fail; returns its exit code and its message."""
    code = run(arguments)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(r"^localgrad: .+\n  where: .+\n  what to do: .+\n\Z", printed.err, re.M)
    return code, printed.err


def seen(text):
    """What a terminal shows of a text."""
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A study that takes no time."""
    study = Study(
        name="tiny",
        title="A tiny study",
        source="Nobody.",
        about="Two numbers.",
        cells=lambda setup: [Cell(f"n-{n}", {"n": n}, lambda n=n: {"n": n}) for n in (1, 2)],
        tables=lambda setup, results: [],
        pictures=lambda setup, results: [],
        claims=lambda setup, results: [
            Claim("Numbers are small", "Nobody", Verdict.REPRODUCED, f"up to {results['n-2']['n']}")
        ],
    )
    monkeypatch.setitem(STUDIES, "tiny", study)


# Every command, on a terminal, in a pipe and as JSON.

MINE = {
    "graph": ["graph", "mine:problem"],
    "trace": ["trace", "mine:problem", "--rule", "il", "--steps", "4"],
    "compare": ["compare", "mine:problem", "--rule", "il", "--steps", "4"],
    "audit": ["audit", "mine:problem", "--rule", "il"],
    "train": ["train", *QUICK],
    "reproduce": ["reproduce", "tiny", "--quick"],
}

SHOWN = {
    "graph": ["3 vertices, depth 2", "h0", "h1", "loss", "['w']"],
    "trace": ["il, 4 steps, recorded at 5 times", "plastic", "wave.html (", " kB)"],
    "compare": ["Gradient by il", "['w']", "3x3", "scalar", "worst", "4 steps, depth 2", "warning"],
    "audit": ["update of", "args[0]['w']", "o own, p parents'"],
    "train": ["mlp trained by zil: 10 of 10 steps", "test accuracy: ", "ratio ", ".layers[0].bias"],
    "reproduce": ["A tiny study", "Numbers are small", "reproduced", "up to 2", "README.md"],
}

FIELDS = {
    "graph": {"vertices", "leaves", "depth", "relays", "edges", "groups", "figure"},
    "trace": {"recordings", "page"},
    "compare": {
        "rule", "value", "leaves", "steps", "depth", "residual", "not_finite", "warnings",
        "max_abs", "max_rel", "cosine",
    },
    "audit": {"rules"},
    "train": {
        "model", "rule", "step", "total_steps", "seconds", "loss", "accuracy", "epochs",
        "interrupted", "partial", "out", "times", "comparison",
    },
    "reproduce": {"study", "scale", "out", "seconds", "claims", "results"},
}  # fmt: skip


def test_the_tables_name_every_command():
    assert set(MINE) == set(SHOWN) == set(FIELDS) == set(COMMANDS)


@pytest.mark.rows(2)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_in_a_pipe_the_output_is_plain_text(command, capsys):
    assert run(MINE[command]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert not re.search(r" $", printed, re.M)
    for part in SHOWN[command]:
        assert part in printed


@pytest.mark.rows(2)
@pytest.mark.usefixtures("here", "terminal")
@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal_the_output_fits_80_columns(command, capsys):
    assert run(MINE[command]) == 0
    printed = capsys.readouterr()
    text = seen(printed.out)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b[1m" in printed.out
    assert not re.search(r"^\|", text, re.M)
    for part in SHOWN[command]:
        assert part in text
    assert re.search(r"[-\\|/] \w+.* 0:00:0\d", seen(printed.err))


@pytest.mark.rows(2)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_one_document(command, capsys):
    assert run([*MINE[command], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == FIELDS[command]


# The numbers of the JSON are those of the library.


def mine():
    import mine

    return mine.problem()


def told(arguments, capsys, code=0):
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.usefixtures("here")
def test_graph_as_json(capsys):
    document = told([*MINE["graph"], "--vertices", "elementary"], capsys)
    loss, args = mine()
    view = lg.graph(loss, vertices="elementary")(*args)
    assert document["depth"] == view.depth
    assert document["leaves"] == list(view.leaves)
    assert document["groups"].keys() == view.groups.keys()
    for entry, vertex in zip(document["vertices"], view.vertices, strict=True):
        assert entry["name"] == vertex.name
        assert entry["level"] == vertex.level
        assert entry["parents"] == list(vertex.parents)
        assert entry["source"].endswith(vertex.source.rpartition("/")[2])
    edges = [tuple(edge.values()) for edge in document["edges"]]
    assert edges == [tuple(edge) for edge in view.edges]


@pytest.mark.long
@pytest.mark.usefixtures("here")
def test_trace_as_json(capsys):
    arguments = ["trace", "mine:problem", "--rule", "fa-zil", "--beside", "il", "--beside.steps=3"]
    document = told([*arguments, "--every", "2", "--only", "h*"], capsys)
    loss, args = mine()
    expected = [
        lg.record(loss, rule=rule, every=2, only="h*")(*args)
        for rule in (lg.FaZIL(), lg.InferenceLearning(steps=3))
    ]
    for entry, recording in zip(document["recordings"], expected, strict=True):
        assert entry["rule"] == recording.rule
        assert entry["names"] == ["h0", "h1"]
        assert entry["times"] == recording.times.tolist()
        assert entry["energy"] == pytest.approx(recording.energy.tolist(), rel=1e-5)
        vertex = entry["vertices"][1]
        assert vertex["energy"] == pytest.approx(recording["h1"].energy.tolist(), rel=1e-5)
        assert vertex["shape"] == [3]
        assert vertex["levels"] == [1]
    page = Path(document["page"]["path"])
    assert page.stat().st_size == document["page"]["bytes"] > 10_000
    assert "mine:problem" in page.read_text()


@pytest.mark.usefixtures("here")
def test_audit_as_json(capsys):
    document = told(["audit", "mine:problem"], capsys)
    loss, args = mine()
    audit = lg.audit(loss)(*args)
    assert [entry["rule"]["name"] for entry in document["rules"]] == sorted(rules())
    for entry, audited in zip(document["rules"], audit.rules, strict=True):
        verdicts = ("is_local", "needs_symmetric_weights", "messages_bend", "plasticity_bends")
        for verdict in verdicts:
            assert entry[verdict] is getattr(audited, verdict)
        assert entry["clocks"] == list(audited.clocks)
        reads = entry["vertices"]["h0"]
        assert reads["is_local"] is audited.vertices["h0"].is_local
        assert len(reads["reads"]) == len(audited.vertices["h0"].reads)
    assert run(["audit", "mine:problem"]) == 0
    assert capsys.readouterr().out == f"{audit}\n"


@pytest.mark.usefixtures("here")
def test_numbers_that_are_not_finite_are_strings(capsys):
    arguments = ["compare", "mine:diverging", "--rule", "il", "--rate", "1", "--nudge", "100"]
    document = told(arguments, capsys)
    assert document["max_rel"] in ("nan", "inf")
    assert document["not_finite"]
    assert document["rule"]["nudge"] == 100
    assert document["leaves"][0]["shape"] == [3, 3]


@pytest.mark.long
def test_a_training_is_kept_and_gone_on_with(tmp_path, capsys):
    kept = ["train", *QUICK, "--seeds", "2", "--out", str(tmp_path / "run"), "--align-every", "5"]
    assert run(kept) == 0
    assert "of each seed: " in capsys.readouterr().out
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [5, 10]
    assert len(json.loads(lines[-1])["alignment"]["cosine"][".layers[0].weight"]) == 2
    assert "holds a run already" in refused(kept, capsys)[1]
    assert run([*kept, "--resume"]) == 0
    printed = capsys.readouterr()
    assert "10 of 10 steps" in printed.out
    assert "localgrad: resumed at step 10\n" in printed.err
    code, message = refused([*kept, "--resume", "--learning-rate", "0.5"], capsys)
    assert code == 2
    assert "its learning_rate is 0.002, not 0.5" in message


@pytest.mark.long
def test_nothing_to_resume_is_told(tmp_path, capsys):
    assert run(["train", *QUICK, "--out", str(tmp_path), "--resume"]) == 0
    assert f"localgrad: nothing to resume in {tmp_path}: beginning\n" in capsys.readouterr().err


def emptied(path):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:20] + b"\n")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """The options of a run in a folder, with checkpoints at steps 5 and 10."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert run(["train", *QUICK, "--checkpoint-every", "5", "--out", str(folder)]) == 0
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "damage", "advice"),
    [
        (
            "checkpoints/10",
            emptied,
            "remove that folder: the run then goes on from step 5",
        ),
        ("checkpoints/10/default", emptied, "the run then goes on from step 5"),
        ("checkpoints/10/default", shutil.rmtree, "goes on from step 5"),
        ("settings.json", cut, "name another folder"),
        ("settings.json", Path.unlink, "name another folder"),
        ("metrics.jsonl", cut, "remove the line"),
    ],
)
def test_what_is_damaged_in_a_run_is_named(part, damage, advice, a_run, tmp_path, capsys):
    folder = tmp_path / "damaged"
    shutil.copytree(a_run, folder)
    damage(folder / part)
    code, message = refused(["train", *QUICK, "--out", str(folder), "--resume"], capsys)
    assert code == 1
    assert f"where: {folder / part.removesuffix('/default')}\n" in message
    assert advice in message
    if part.startswith("checkpoints"):
        shutil.rmtree(folder / "checkpoints" / "10")
        assert run(["train", *QUICK, "--out", str(folder), "--resume"]) == 0
        assert "localgrad: resumed at step 5\n" in capsys.readouterr().err
        assert [line["step"] for line in read_metrics(folder)] == [5, 10]


@pytest.mark.long
def test_train_as_json_tells_each_epoch(capsys):
    document = told(["train", *QUICK, "--rule", "il", "--steps", "3"], capsys)
    assert [entry["epoch"] for entry in document["epochs"]] == [1, 2]
    assert document["epochs"][-1]["accuracy"] == pytest.approx(document["accuracy"])
    assert document["step"] == document["total_steps"] == document["epochs"][-1]["step"]
    assert document["rule"]["steps"] == document["comparison"]["steps"] == 3
    assert document["times"]["ratio"] > 0
    assert document["comparison"]["max_rel"] > 0
    assert document["interrupted"] is False


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("seeds", [1, 2])
def test_that_one_of_many_is_compared_is_said(seeds, devices, monkeypatch, capsys):
    used = jax.devices()[:devices]
    monkeypatch.setattr(jax, "devices", lambda: used)
    assert run(["train", *QUICK, "--seeds", str(seeds)]) == 0
    printed = capsys.readouterr().out
    part = " of one seed, on one device" if seeds + devices > 2 else ""
    assert f"seconds per step{part}: zil" in printed
    assert f"Gradient by zil against backpropagation{part}\n" in printed


@pytest.mark.rows(1)
@pytest.mark.parametrize("name", rules())
def test_every_rule_trains(name, capsys):
    once = ["--hidden", "8", "--epochs", "1", "--batch-size", "1024"]
    given = ["--schedule", "top-down"] if name == "ar" else []
    document = told(["train", *once, "--rule", name, *given], capsys)
    assert document["rule"]["name"] == name
    assert document["rule"].get("schedule") == (given[1] if given else None)
    assert document["step"] == document["total_steps"] == 1


# Files.


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_graph_draws_a_figure(kind, here, capsys):
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind]
    assert run(["graph", "mine:problem", "--out", f"g.{kind}"]) == 0
    assert (here / f"g.{kind}").read_bytes().startswith(begins)
    assert f"figure: g.{kind}" in capsys.readouterr().out
    assert {path.name for path in here.iterdir()} >= {f"g.{kind}"}
    assert not list(here.glob(".*"))


def test_graph_without_matplotlib(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "localgrad.plot", raising=False)
    monkeypatch.delattr(lg, "plot", raising=False)
    code, message = refused(["graph", "mine:problem", "--out", "g.png"], capsys)
    assert code == 1
    assert "pip install 'localgrad[plot]'" in message
    assert not list(here.glob("*.png"))


def test_tensorboard_without_its_writer(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    code, message = refused(["train", *QUICK, "--out", "run", "--tensorboard"], capsys)
    assert code == 1
    assert "pip install 'localgrad[tensorboard]'" in message
    assert not (here / "run").exists()


def test_trace_opens_the_page(here, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert run(["trace", "mine:problem", "--out", "a page.html", "--open"]) == 0
    assert opened == [(here / "a page.html").as_uri()]
    assert "page: a page.html" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "name"), [("trace", "wave.html"), ("graph", "graph.svg")])
def test_a_file_that_cannot_be_written_leaves_nothing(command, name, here, monkeypatch, capsys):
    (here / name).write_text("old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, message = refused([command, "mine:problem", "--out", name], capsys)
    assert code == 1
    assert "No space left on device" in message
    assert (here / name).read_text() == "old"
    assert not list(here.glob(".*"))


def test_a_recording_that_is_too_large_is_refused(here, monkeypatch, capsys):
    monkeypatch.setattr(trace, "LARGEST", 100)
    code, message = refused(["trace", "mine:problem"], capsys)
    assert code == 1
    assert "--only" in message
    assert not (here / "wave.html").exists()


# Wrong usage, and functions that fail.


@pytest.mark.rows(15)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["trian"], 2, ["no command 'trian'", "did you mean 'train'?", "audit, compare, graph"]),
        (["--json", "graph"], 2, ["no command '--json'"]),
        (["train", "--rule", "zli"], 2, ["no rule 'zli'", "--rule zli", "did you mean 'zil'?"]),
        (["audit", "--rule", "fazil"], 2, ["no rule 'fazil'", "did you mean 'fa-zil'?"]),
        (["trace", "--beside", "backpop"], 2, ["--beside backpop", "did you mean 'backprop'?"]),
        (["trace", "--rule", "backprop"], 2, ["not run step by step", "choose from: ar, fa-zil"]),
        (["trace", "mine:problem", "--only", "los"], 2, ["no vertex", "did you mean 'loss'?"]),
        (["trace", "--out", "wave.pdf"], 2, ["'wave.pdf'", "end its name in .html"]),
        (["graph", "--out", "no/g.png"], 2, ["no place for a file", "g.png"]),
        (["train", "--model", "mpl"], 2, ["no model 'mpl'", "did you mean 'mlp'?", "cnn, "]),
        (["graph", "--data", "digit"], 2, ["no data set 'digit'", "did you mean 'digits'?"]),
        (["graph", "--loss", "cross-entopy"], 2, ["did you mean 'cross-entropy'?"]),
        (["graph", "--data", "mnist", "--folder", "nowhere"], 1, ["nowhere"]),
        (["train", "--optimiser", "adam"], 2, ["no optimiser 'adam'", "did you mean 'adamw'?"]),
        (
            ["train", "--learning-rate-schedule", "cos"],
            2,
            ["no schedule 'cos'", "--learning-rate-schedule cos", "did you mean 'cosine'?"],
        ),
        (["train", "--feedback", "learnt"], 2, ["no feedback 'learnt'", "did you mean 'learned'?"]),
        (["train", "--resume"], 2, ["without a folder nothing is kept"]),
        (
            ["train", "--batch-size", "30"],
            2,
            ["cannot be divided among 8 devices", "multiple of 8"],
        ),
        (["reproduce", "infinitesimal"], 2, ["no study", "did you mean 'infinitesimal-limit'?"]),
        (["reproduce"], 2, ["no study was named", "infinitesimal-limit"]),
        (["reproduce", "tiny", "--quick", "--full"], 2, ["a study has one scale"]),
        (["reproduce", "millidge-2020-ar"], 1, ["mnist is read from files", "no folder was given"]),
        (["train", "--processes", "2"], 2, ["several processes", "--coordinator HOST:PORT"]),
        (["train", "--process", "1"], 2, ["several processes", "--coordinator HOST:PORT"]),
        (["train", "--coordinator", "127.0.0.1"], 2, ["no address with a port", "HOST:PORT"]),
        (["train", "--coordinator", "h:99999"], 2, ["no address with a port", "HOST:PORT"]),
        (
            ["train", "--coordinator", "h:1", "--processes", "2", "--process", "2"],
            2,
            ["no process 2 of 2", "--processes 2 --process 2", "from 0 on"],
        ),
        (["train", "--batch-size", "9999"], 2, ["choose a batch size from 1 to 1437"]),
        (["train", "--learning-rate", "1e30", *QUICK], 1, ["diverged", "lower the learning rate"]),
        (["compare", "--rule", "il", "--steps", "0"], 2, ["steps=0", "settings of il", "least 1"]),
        (["compare", "--rate", "0.5"], 2, ["rate=0.5", "settings of zil", "clock=True"]),
        (["compare", "mine"], 2, ["'mine' does not name a function", "package.module:function"]),
        (["compare", "mime:problem"], 2, ["no module 'mime'", "did you mean 'mine'?"]),
        (["compare", "jax.numpi:f"], 2, ["no module 'jax.numpi'", "did you mean 'jax.numpy'?"]),
        (["compare", "mine:problme"], 2, ["no function 'problme'", "did you mean 'problem'?"]),
        (["compare", "mine:problem", "--model", "mlp"], 2, ["cannot go together"]),
        (["compare", "mine:forgetful"], 1, ["did not return (loss_fn, args)", "type int"]),
        (["compare", "mine:broken"], 1, ["RuntimeError: no data", "mine.py:45, in broken"]),
        (["graph", "mine:singular"], 1, ["LinAlgError", "mine.py:48, in singular"]),
        (["compare", "mine:vector"], 1, ["not a scalar", "mine.py:39", "sum or average"]),
        (["trace", "mine:misshapen"], 1, ["TypeError", "mine.py:52"]),
        (["audit", "mine:branching"], 1, ["TracerBoolConversionError", "mine.py:57", "lax.cond"]),
        (["train", "--model", "mine:nework"], 2, ["no function 'nework'", "mean 'network'?"]),
        (["train", "--model", "mine:forgetful"], 2, ["--model mine:forgetful", "(shape, classes"]),
        (["train", "--model", "mine:too_small"], 1, ["TypeError", "mine.py:36, in <lambda>"]),
        (["train", "--model", "mine:network", "--hidden", "8"], 2, ["its function's business"]),
        (["train", "--model", "mine:looping"], 1, ["while_loop", "mine.py:68", "static number"]),
        (["train", "--model", "mine:narrow"], 1, ["too many at once", "mine.py:74", "mend it"]),
        (["compare", "unimportable:f"], 1, ["missing_dependency", "unimportable.py:1"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_messages_say_what_where_and_what_to_do(arguments, code, parts, capsys):
    got, message = refused(arguments, capsys)
    assert got == code
    assert "Traceback" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["train", "--epoch", "3"], "--epochs INT>=1"),
        (["train", "--epochs", "0"], "0 is not >= 1"),
        (["train", "--learning-rate", "nan"], "nan is not > 0"),
        (["graph", "--hidden", "8", "-1"], "INT>=1"),
        (["graph", "--vertices", "mark"], "'marked'"),
        (["compare", "--max-rel", "-1"], "-1 is not >= 0"),
        (["compare", "--rule", "il", "--step", "3"], "--steps INT"),
        (["trace", "--every", "0"], "0 is not >= 1"),
        (["trace", "--rule", "fa-zil", "--phi", "tokn-phi"], "did you mean 'token-phi'?"),
        (["trace", "--rule", "fa-zil", "--phi", "value-phi:quit=1"], "value-phi[:quiet=1"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused_with_the_near_one(arguments, part, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert part in " ".join(printed.err.replace("│", " ").split())
    assert printed.out == ""


@pytest.mark.usefixtures("here")
def test_debug_shows_the_traceback(capsys):
    assert run(["compare", "mine:broken", "--debug"]) == 1
    message = capsys.readouterr().err
    assert 'raise RuntimeError("no data")' in message
    assert message.endswith("what to do: correct it there, then run the command again\n")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--max-rel", "1e-5"], 0),
        (["--rule", "il", "--steps", "2", "--max-rel", "1e-5"], 1),
        (["--rule", "il", "--rate", "1", "--nudge", "100", "--max-rel", "1e30"], 1),
    ],
)
def test_compare_fails_above_a_limit(options, code, capsys):
    assert run(["compare", "mine:diverging", *options]) == code
    printed = capsys.readouterr()
    assert "Gradient by" in printed.out
    assert ("the largest relative difference is" in printed.err) == bool(code)
    document = told(["compare", "mine:diverging", *options], capsys, code)
    assert (document["max_rel"] == "nan" or float(document["max_rel"]) > 1e-5) == bool(code)


# The page about it.

PAGE = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
EXAMPLES = re.findall(r"^\$ localgrad ([a-z][^|\n]*)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.long
@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=lambda text: text.partition("\n")[0])
def test_the_examples_of_the_page(command, shown, here, capsys):
    (module,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    (here / "mine.py").write_text(module)
    assert run(shlex.split(command)) == 0
    printed = re.sub(r" +$", "", seen(capsys.readouterr().out), flags=re.M)
    sizes = r"\(\d+ kB\)"
    assert re.sub(sizes, "", printed).strip() == re.sub(sizes, "", shown).strip()


def test_the_page_has_every_command_and_exit_code():
    shown = {command.split()[0] for command, _ in EXAMPLES}
    assert shown == set(COMMANDS) - {"train", "reproduce"}
    table = PAGE.partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(COMMANDS)
    assert re.findall(r"^\| (\d+) \|", PAGE, re.M) == ["0", "1", "2", "130", "141"]


# Help.


def test_help_of_the_whole(capsys):
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert run([]) == 2
    assert capsys.readouterr() == ("", printed)
    assert max(map(len, printed.splitlines())) <= 80
    for command, summary in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(summary)}$", printed, re.M)
    assert re.findall(r"^  (\d+) ", printed, re.M) == ["0", "1", "2", "130"]
    assert printed.count("\n  localgrad ") == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        run([command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert f"Example:\n    localgrad {command} " in printed
    text = " ".join(printed.replace("│", " ").split())
    if command == "reproduce":
        assert "One of infinitesimal-limit, " in text
    else:
        names = [*MODELS, "MODULE:FUNCTION to make your own"]
        assert f"One of {', '.join(names)}. (default: mlp)" in text
        assert "--batch-size INT>=1" in text
    assert "--json" in text
    assert "MISSING" not in text
    example = re.search(r"Example:\n +localgrad (.*)", printed)[1].split()
    options = {"compare": Compare, "audit": Audit, "trace": Trace, "train": Train}.get(command)
    if options:
        parse(example[0], options, example[1:])


@pytest.mark.parametrize("name", rules())
@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("compare --rule", ""),
        ("trace --rule", ""),
        ("trace --beside", "beside."),
        ("audit --rule", ""),
        ("train --rule", ""),
    ],
)
def test_help_lists_the_fields_of_every_rule(command, prefix, name, capsys):
    with pytest.raises(SystemExit) as stopped:
        run([*command.split(), name, "--help"])
    assert stopped.value.code == 0
    listed = re.findall(r"--[^\s,]+", capsys.readouterr().out)
    own = {field.name.replace("_", "-") for field in fields(rules()[name])} - {"loop"}
    assert {f"--{prefix}{option}" for option in own} <= set(listed)


def test_help_says_the_range_of_a_rules_field(capsys):
    with pytest.raises(SystemExit):
        run(["compare", "--rule", "il", "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--steps INT Number of inference steps, at least 1;" in text
    assert "--rate FLOAT gamma, in steps of time; greater than 0." in text
    assert "`" not in text


def test_help_and_version_load_neither_models_nor_data():
    program = (
        "import sys; from localgrad.cli.app import run; "
        "assert run(['--help']) == run(['--version']) == 0; "
        "sys.exit(len({'tyro', 'rich', 'equinox', 'sklearn', 'optax'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.endswith(f"\nlocalgrad {lg.__version__}\n")


# The fields of a rule are options.


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
    options = parse("train", Train, ["--rule", "relaxing", "--rate", "0.5", "--steps", "3"])
    assert options.rule == "relaxing"
    assert options.rule_fields == Relaxing(steps=3, rate=0.5)
    assert parse("compare", Compare, ["--rule=relaxing"]).rule_fields == Relaxing()

    code, message = refused(["train", "--rule", "relaxing", "--steps", "0"], capsys)
    assert code == 2
    assert "steps must be positive" in message

    with pytest.raises(SystemExit):
        parse("train", Train, ["--rule", "relaxing", "--help"])
    assert "How often the units relax. (default: 8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "phi"),
    [
        ("token-phi", lg.TokenPhi()),
        ("value-phi", lg.ValuePhi()),
        ("value-phi:quiet=2", lg.ValuePhi(quiet=2)),
        ("value-phi:threshold=0.5,quiet=2", lg.ValuePhi(quiet=2, threshold=0.5)),
    ],
)
def test_a_field_with_fields_of_its_own(text, phi):
    options = parse("trace", Trace, ["--rule", "fa-zil", "--phi", text, "--wait-before=4"])
    assert options.rule_fields == lg.FaZIL(phi=phi, wait_before=4)


@pytest.mark.parametrize("name", rules())
def test_defaults_are_those_of_the_rule_and_are_not_told(name):
    given = (
        ["--unroll", "1", "--beside.loop.unroll", "1"]
        if "loop" in {f.name for f in dataclasses.fields(rules()[name])}
        else []
    )
    options = parse("trace", Trace, ["--rule", name, "--beside", name, *given])
    for rule in (options.rule_fields, options.beside_fields):
        assert repr(rule) == repr(rules()[name]())


# How it ends, and what is said on the way.


@pytest.mark.usefixtures("here")
def test_what_takes_long_is_told_once(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with progress.doing("waiting"):
        time.sleep(0.1)
    with progress.doing("calculating"):
        pass
    time.sleep(0.05)
    assert capsys.readouterr() == ("", "localgrad: waiting ...\n")


@pytest.mark.long
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("when", [["--checkpoint-every", "2"], []], ids=["training", "saving"])
def test_a_disk_that_is_full_ends_a_training_with_a_message(when):
    with start("train", "--epochs", "1", "--out", "full", *when, limit="ulimit -f 40") as process:
        out, message = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "localgrad: the run could not be kept: File too large\n  where: full\n" in message
    assert message.endswith("that is whole\n")
    assert "Traceback" not in message


@pytest.fixture
def part_of_cifar10(tmp_path):
    """The options for a data set of one batch of five, with few examples."""
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes(k % 10 for _ in range(16) for k in range(3073)))
    return ["--data", "cifar10", "--folder", str(tmp_path), "--hidden", "8", "--batch-size", "8"]


@pytest.mark.rows(1)
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["graph", "trace", "compare", "audit", "train"])
def test_a_data_set_that_is_not_complete_is_told_once(command, part_of_cifar10, capsys):
    given = {"audit": ["--rule", "zil"], "train": ["--epochs", "1"]}.get(command, [])
    assert run([command, *part_of_cifar10, *given, "--json"]) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "complete" in line]
    assert line.startswith("localgrad: cifar10 is not complete: 16 of 50,000 training inputs, ")
    if command == "train":
        assert line.endswith(json.loads(printed.out)["partial"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["graph", "trace", "compare", "audit"])
def test_ctrl_c_while_a_function_is_traced(command, here, capsys):
    assert run([command, "mine:interrupting"]) == app.INTERRUPTED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "localgrad: stopped by Ctrl-C\n"
    assert {path.name for path in here.iterdir()} <= {"mine.py", "unimportable.py", "__pycache__"}


@pytest.mark.long
def test_ctrl_c_ends_a_running_trace_at_once(here):
    steps = ["--rule", "il", "--steps", "100000", "--every", "100000"]
    with start("trace", "mine:large", *steps) as process:
        for line in process.stderr:
            if "recording" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "localgrad: stopped by Ctrl-C\n")
    assert not list(here.glob("*.html"))


@pytest.mark.long
def test_ctrl_c_reports_what_a_training_has_reached():
    with start("train", "--epochs", "100000", "--hidden", "8", "--json") as process:
        first = process.stderr.readline()
        while not first.startswith("epoch 1/100000"):
            assert first.startswith("localgrad: ")
            first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    document = json.loads(out)
    assert document["interrupted"] is True
    assert document["comparison"] is None
    assert 0 < document["step"] < document["total_steps"] == 4_400_000
    assert document["epochs"][0]["epoch"] == 1
    assert "Traceback" not in err
    assert err.endswith("localgrad: stopped by Ctrl-C\n")


@pytest.mark.long
def test_ctrl_c_ends_all_processes_at_the_same_step(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    one = ["train", "--epochs", "100000", "--hidden", "8", "--log-every", "1"]
    one += ["--out", str(tmp_path), "--resume", "--processes", "2"]
    reached = 0
    for first in (0, 1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        both = [start(*one, "--coordinator", address, "--process", str(k)) for k in (0, 1)]
        try:
            while steps_kept(tmp_path) <= reached and all(p.poll() is None for p in both):
                time.sleep(0.1)
            both[first].send_signal(signal.SIGINT)
            time.sleep(0.1)
            both[1 - first].send_signal(signal.SIGINT)
            for process in both:
                _, err = process.communicate(timeout=60)
                assert process.returncode == 130, err
        finally:
            for process in both:
                process.kill()
        assert steps_kept(tmp_path) > reached
        reached = steps_kept(tmp_path)
        assert (tmp_path / "checkpoints" / str(reached)).is_dir()


def steps_kept(folder):
    lines = read_metrics(folder)
    return lines[-1]["step"] if lines else 0


@pytest.mark.usefixtures("here")
def test_a_pipe_that_closes_is_no_error():
    with start("audit", "mine:problem", "--rule", "zil") as process:
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141
    assert err.replace("localgrad: auditing zil ...\n", "") == ""


@pytest.mark.long
@pytest.mark.usefixtures("here")
def test_a_real_terminal(monkeypatch):
    leader, follower = pty.openpty()
    command = ["graph", "mine:problem"]
    with start(*command, stdout=follower, stderr=follower, stdin=follower, text=False) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 1000)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert process.returncode == 0
    assert "calling mine:problem" in seen(shown.decode())
    assert "3 vertices, depth 2" in seen(shown.decode())
    assert shown.endswith(b"\r\n")


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

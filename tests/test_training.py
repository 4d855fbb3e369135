"""Training: the same numbers however a run is cut up, divided, stopped or killed."""

import json
import multiprocessing
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import localgrad as lg
from localgrad.experiments.training import (
    Config,
    Devices,
    DivergedError,
    Run,
    Trainer,
    Watch,
    read_metrics,
)
from localgrad.experiments.training.optimisers import OPTIMISERS, SCHEDULES

SMALL = Config(model="mlp", hidden=(8,), epochs=2, batch_size=64)
ONE = Devices(jax.devices()[:1])


def trained(config, devices=ONE, **watch):
    """A run that has been trained to its end, and its last report."""
    run = Run(Trainer(config, devices), Watch(**watch))
    *_, last = run.progress()
    run.close()
    return run, last


def leaves(run):
    return jax.tree.leaves(jax.device_get(run.state))


def assert_same(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def without_time(folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(folder)]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"optimiser": "adamv"}, "no optimiser 'adamv'; did you mean 'adamw'"),
        ({"schedule": "cos"}, "no schedule 'cos'; did you mean 'cosine'"),
        ({"loss": "quared"}, "no loss 'quared'; did you mean 'squared'"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0, got nan"),
        ({"learning_rate": float("nan")}, "learning rate must be positive, got nan"),
    ],
)
def test_wrong_settings(changes, text):
    with pytest.raises(ValueError, match=text):
        replace(SMALL, **changes)


@pytest.mark.rows(1)
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_optimisers_learn(optimiser):
    rate = {"sgd": 0.5, "momentum": 0.1, "rmsprop": 0.01, "adamw": 0.01, "lion": 0.01}[optimiser]
    config = replace(SMALL, optimiser=optimiser, schedule="constant", learning_rate=rate)
    _, last = trained(replace(config, rule=lg.Backprop(), weight_decay=0.0, epochs=6))
    assert last.accuracy > 0.7


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_begin_and_end_as_they_say(schedule):
    rate = SCHEDULES[schedule](0.5, 100)
    assert max(float(rate(k)) for k in range(101)) == 0.5
    assert (float(rate(0)) == 0.5) == (schedule != "warmup-cosine")
    assert (float(rate(100)) == 0.5) == (schedule == "constant")
    assert float(SCHEDULES[schedule](0.5, 1)(0)) == 0.5, "a single step learns"


@pytest.mark.long
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(
    ("feedback", "stays", "within"), [("random", "psi", 0.0), ("learned", "W - psi", 1e-6)]
)
def test_weight_decay_leaves_feedback_weights_what_they_are(feedback, stays, within, seeds):
    config = replace(SMALL, feedback=feedback, seeds=seeds)
    assert config.weight_decay > 0
    run, _ = trained(config)
    for begin, end in zip(*map(twins, (run.trainer.start(), run.state)), strict=True):
        assert (begin["W"] != end["W"]).any()
        np.testing.assert_allclose(end[stays], begin[stays], atol=within, rtol=0)


def test_weight_decay_brings_decayed_feedback_weights_and_their_twins_together():
    run, _ = trained(replace(SMALL, feedback="decayed"))
    for begin, end in zip(*map(twins, (run.trainer.start(), run.state)), strict=True):
        before, after = (np.linalg.norm(w["W - psi"]) for w in (begin, end))
        assert after < 0.99 * before


def twins(state):
    """The weights that have feedback weights, with these and their differences."""
    layers = zip(state.params.forward.layers, state.params.backward.layers, strict=True)
    pairs = [(np.asarray(a.weight), np.asarray(b.weight)) for a, b in layers]
    return [{"W": w, "psi": psi, "W - psi": w - psi} for w, psi in pairs]


@pytest.mark.long
def test_windows_do_not_change_the_numbers(tmp_path):
    one, _ = trained(SMALL, log_every=1)
    other, last = trained(SMALL, log_every=7, align_every=5)
    assert_same(one, other)
    assert last.step == one.trainer.total_steps == 2 * (1437 // 64)


ALL_AT_ONCE = ["41 handed over", "44 handed over", "41 seen", "44 seen"]
IN_TURN = ["41 handed over", "41 seen", "44 handed over", "44 seen"]


@pytest.mark.parametrize(
    ("devices", "order"),
    # Several devices of a CPU could wait for each other for ever.
    [(ONE, ALL_AT_ONCE), (Devices(), IN_TURN)],
    ids=["one device", "all devices of a CPU"],
)
def test_a_device_has_the_next_window_while_one_is_looked_at(devices, order):
    trainer, told = Trainer(SMALL, devices), []

    def measure(step, state):
        told.append(f"{step} handed over")
        return state.params

    for window in trainer.windows(trainer.start(), 38, lambda step: step + 3, measure):
        told.append(f"{window.step} seen")
        measured, params = (jax.tree.leaves(x) for x in (window.measured, window.state.params))
        assert all(map(np.array_equal, measured, params))
    assert told == order


@pytest.mark.long
def test_windows_of_several_processes_end_at_the_same_steps(monkeypatch):
    """They hand over the same programs in the same order, though their clocks differ."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    run = Run(Trainer(SMALL, ONE), Watch(log_every=10, align_every=15))
    assert [p.step for p in run.progress()] == [10, 15, 20, 22, 30, 40, 44]


def test_z_il_trains_as_backpropagation_does():
    by_z_il, _ = trained(replace(SMALL, rule=lg.ZIL()))
    by_backprop, _ = trained(replace(SMALL, rule=lg.Backprop()))
    for x, y in zip(leaves(by_z_il), leaves(by_backprop), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_several_seeds_are_as_many_runs():
    together, report = trained(replace(SMALL, seeds=3))
    for k in range(3):
        config = replace(SMALL, seed=k)
        alone = Trainer(config, ONE)
        alone.data = together.trainer.data  # the split of the first seed
        run = Run(alone, Watch())
        *_, last = run.progress()
        for x, y in zip(leaves(together), leaves(run), strict=True):
            np.testing.assert_allclose(x[k], y, rtol=1e-4, atol=1e-5)
        assert abs(report.accuracy[k] - last.accuracy) < 0.01
    assert report.loss.shape == report.accuracy.shape == (3,)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [1, 2])
def test_all_devices_together_compute_what_one_does(seeds):
    config = replace(SMALL, seeds=seeds)
    many, one = trained(config, Devices())[0], trained(config)[0]
    assert len(many.trainer.devices) == len(jax.devices()) == 8
    for x, y in zip(leaves(many), leaves(one), strict=True):
        assert len(jax.tree.leaves(many.state)[0].sharding.device_set) == 8
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_steps_are_timed_on_one_device(monkeypatch):
    trainer, timed = Trainer(replace(SMALL, seeds=2), Devices()), []
    monkeypatch.setattr(jax, "block_until_ready", timed.append)
    trainer.time_steps(trainer.start().params, rounds=1)
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(timed)} == {1}


def test_a_batch_that_cannot_be_divided():
    with pytest.raises(ValueError, match="a batch of 30 cannot be divided among 8 devices"):
        Trainer(replace(SMALL, batch_size=30), Devices()).start()


@pytest.mark.long
@pytest.mark.parametrize("stop", [1, 17, 22, 43])
def test_a_run_is_gone_on_with_bit_for_bit(tmp_path, stop):
    whole, _ = trained(SMALL, folder=tmp_path / "whole", log_every=1, checkpoint_every=10)
    config = replace(SMALL, rule=lg.ZIL())
    first = Run(Trainer(config, ONE), Watch(tmp_path / "cut", log_every=1, checkpoint_every=10))
    for report in first.progress():
        if report.step == stop:
            break
    first.close()
    second = Run(
        Trainer(config, ONE), Watch(tmp_path / "cut", True, log_every=1, checkpoint_every=10)
    )
    assert second.step == stop
    for _ in second.progress():
        pass
    second.close()
    assert_same(whole, second)
    assert without_time(tmp_path / "cut") == without_time(tmp_path / "whole")
    assert len(read_metrics(tmp_path / "cut")) == whole.trainer.total_steps


@pytest.mark.long
def test_a_folder_keeps_one_run(tmp_path):
    trained(SMALL, folder=tmp_path)
    with pytest.raises(ValueError, match="holds a run already; resume it"):
        trained(SMALL, folder=tmp_path)
    with pytest.raises(ValueError, match=r"its learning_rate is 0\.002, not 0\.1"):
        trained(replace(SMALL, learning_rate=0.1), folder=tmp_path, resume=True)
    precise = pytest.raises(ValueError, match=r"weight is 'float32\[.*not 'float64\[.*precision")
    with jax.enable_x64(True), precise:
        trained(SMALL, folder=tmp_path, resume=True)
    run = Run(Trainer(SMALL, ONE), Watch(tmp_path, resume=True))
    assert run.step == run.trainer.total_steps
    assert list(run.progress()) == []
    run.close()


def test_a_folder_in_which_nothing_was_trained_holds_no_run(tmp_path):
    Run(Trainer(SMALL, ONE), Watch(tmp_path)).close()
    other = replace(SMALL, learning_rate=0.1)
    trained(other, folder=tmp_path)
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert kept["config"] == other.as_dict()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="holds a run already"):
        Run(Trainer(SMALL, ONE), Watch(tmp_path))


@pytest.mark.long
def test_a_run_is_not_gone_on_with_on_other_data(tmp_path):
    text, folder = tmp_path / "tale.txt", tmp_path / "run"
    text.write_text("once upon a time " * 40)
    config = Config(model="decoder", hidden=(8,), epochs=1, batch_size=4, data=f"text:{text}")
    trained(config, folder=folder)
    text.write_text("once upon a clock " * 40)
    with pytest.raises(ValueError, match=r"its data is '.* examples, sha256 .*; give the files"):
        Run(Trainer(config, ONE), Watch(folder, resume=True))


def test_the_journal_survives_a_line_cut_in_two(tmp_path):
    trained(SMALL, folder=tmp_path, log_every=5, checkpoint_every=11)
    lines = without_time(tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-20])
    run = Run(Trainer(SMALL, ONE), Watch(tmp_path, resume=True))
    run.close()
    assert without_time(tmp_path) == lines[:-1]
    assert [line["step"] for line in lines][:4] == [5, 10, 11, 15]


@pytest.mark.long
def test_alignment_is_that_of_compare():
    rule = lg.FixedPrediction(steps=6, rate=0.3)
    config = replace(SMALL, rule=rule, epochs=1)
    run, last = trained(config, align_every=22)
    trainer = run.trainer
    comparison = lg.compare(trainer.loss, rule=rule)(run.state.params, *trainer.held_out)
    for leaf in comparison.leaves:
        name = leaf.name.removeprefix("args[0]")
        assert last.alignment["cosine"][name] == pytest.approx(leaf.cosine, abs=1e-5)
        assert last.alignment["max_rel"][name] == pytest.approx(leaf.max_rel, rel=1e-3)
        norm_ratio = leaf.delivered / leaf.cosine
        assert last.alignment["ratio"][name] == pytest.approx(norm_ratio, rel=1e-3)


@pytest.mark.long
def test_tensorboard_gets_what_the_journal_gets(tmp_path):
    trained(SMALL, folder=tmp_path, tensorboard=True, align_every=22)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content, at, written = file.read_bytes(), 0, {}
    while at < len(content):  # TFRecord: a length, its checksum, an event, its checksum
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        written |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        at += 16 + length
    for line in read_metrics(tmp_path):
        numbers = {name: line[name] for name in ("loss", "accuracy", "seconds") if name in line}
        for leaf, cosine in line["alignment"]["cosine"].items():
            numbers[f"alignment/cosine/{re.sub('[^-/.A-Za-z0-9]', '_', leaf)}"] = cosine
        found = {tag: number for (step, tag), number in written.items() if step == line["step"]}
        assert found.keys() >= numbers.keys()
        assert "step" not in found
        assert {tag: found[tag] for tag in numbers} == pytest.approx(numbers, rel=1e-6)


PROGRAM = """
import sys
import jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
import numpy as np
from localgrad.experiments.training import *
config = Config(hidden=(8,), epochs=2, batch_size=64)
run = Run(Trainer(config), Watch(sys.argv[3], log_every=5))
assert (len(run.trainer.devices), jax.process_count()) == (4, 2)
for _ in run.progress():
    pass
run.close()
"""


@pytest.mark.long
def test_two_processes_train_one_network(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(k), str(tmp_path / "both")],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for k in range(2)
    ]
    for process in both:
        _, error = process.communicate(timeout=180)
        assert process.returncode == 0, error
    alone, _ = trained(SMALL, folder=tmp_path / "alone", log_every=5)
    resumed = Run(Trainer(SMALL, ONE), Watch(tmp_path / "both", resume=True))
    resumed.close()
    assert resumed.step == alone.step
    for x, y in zip(leaves(resumed), leaves(alone), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    for a, b in zip(*map(without_time, (tmp_path / "both", tmp_path / "alone")), strict=True):
        assert a["step"] == b["step"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def diverging(seeds):
    """Far too large a step: the forward pass after it overflows."""
    return replace(SMALL, optimiser="sgd", learning_rate=1e30, seeds=seeds)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [1, 2])
def test_what_is_not_finite_is_found(seeds):
    with pytest.raises(DivergedError) as caught:
        trained(diverging(seeds), log_every=7)
    assert caught.value.step == 2
    assert re.search(r"vertex \S+ \(.*\.py:\d+\) in the forward pass", caught.value.cause)
    assert ("seed 0, " in caught.value.cause) == (seeds > 1)


@pytest.mark.long
def test_an_inference_that_diverges_is_found():
    rule = lg.InferenceLearning(steps=300, rate=3.0)
    place = r"vertex \S+ \(.*\.py:\d+\) at inference step \d+"
    with pytest.raises(DivergedError, match=rf"not finite at step \d+: {place}"):
        trained(replace(SMALL, rule=rule), log_every=3)


def test_a_vertex_without_a_source_line_is_named_without_one(monkeypatch):
    module = sys.modules["localgrad._inspect.graph"]
    monkeypatch.setattr(module, "located_at", lambda equation: "unknown")
    with pytest.raises(DivergedError, match=r"the value of vertex \S+ in the forward pass"):
        trained(diverging(1), log_every=7)


LONG = replace(SMALL, epochs=40)
KEPT = {"log_every": 5, "checkpoint_every": 20}


def child(folder):
    """Train a small network in a folder, going on with what is there."""
    run = Run(Trainer(LONG, ONE), Watch(folder, resume=True, **KEPT))
    for _ in run.progress():
        time.sleep(0.01)
    run.close()


def reached(folder):
    lines = read_metrics(folder) if (folder / "metrics.jsonl").exists() else []
    return lines[-1]["step"] if lines else 0


def killed(folder, delay, after_a_line):
    """Go on with a run and kill it: some seconds after its start, or after its first line."""
    # A child of a process that has imported everything and has not begun to compute.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["localgrad.experiments.training"])
    process = context.Process(target=child, args=(folder,))
    before = reached(folder)
    process.start()
    while after_a_line and reached(folder) <= before and process.is_alive():
        time.sleep(0.01)
    process.join(delay)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_were_not(tmp_path):
    whole, _ = trained(LONG, folder=tmp_path / "whole", **KEPT)
    folder, moments = tmp_path / "killed", random.Random(0)
    steps = []
    for k in range(20):
        killed(folder, moments.uniform(0, 0.4 if k % 4 else 2.0), after_a_line=k % 4 > 0)
        steps.append(reached(folder))
        # The newest checkpoint may not have been whole yet.
        assert steps[-1] >= (max(steps) // 20 - 1) * 20, f"too much was lost: {steps}"
    assert len(set(steps)) > 10, f"it was killed at the same steps: {steps}"
    child(folder)
    ended = Run(Trainer(LONG, ONE), Watch(folder, resume=True))
    ended.close()
    assert ended.step == ended.trainer.total_steps
    assert_same(whole, ended)
    assert without_time(folder) == without_time(tmp_path / "whole")

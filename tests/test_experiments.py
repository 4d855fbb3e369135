"""Training."""

import dataclasses

import jax
import numpy as np
import pytest

import localgrad as lg
from localgrad.experiments.training import Config, Devices, Run, Trainer, Watch, trainer
from localgrad.experiments.training.alignment import Measure

pytestmark = pytest.mark.long

QUICK = Config(hidden=(32,), epochs=2, batch_size=128)
ONE = Devices(jax.devices()[:1])


def trained(config):
    *_, last = Run(Trainer(config, ONE), Watch()).progress()
    return last


@pytest.fixture(scope="module")
def tale(tmp_path_factory):
    """A text in which every character but one tells the next one."""
    path = tmp_path_factory.mktemp("text") / "tale.txt"
    path.write_text("the wave of errors runs back. " * 100)
    return path


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("mlp", (32,)),
        ("cnn", (8, 8)),
        ("gru", (32,)),
        ("decoder", (64,)),
        pytest.param("residual", (8, 8), marks=pytest.mark.matrix),
        pytest.param("transformer", (64,), marks=pytest.mark.matrix),
    ],
)
def test_models_learn_and_agree_with_backpropagation(name, hidden, tale):
    data, epochs = (f"text:{tale}", 12) if name == "decoder" else ("digits", 2)
    config = Config(name, hidden=hidden, epochs=epochs, learning_rate=1e-2, data=data)
    batch_size = 16 if name == "decoder" else 32
    trainer = Trainer(dataclasses.replace(config, batch_size=batch_size), ONE)
    assert trainer.compare(trainer.model.params).max_rel <= 5e-6
    windows = trainer.windows(trainer.start(), 0, lambda step: step + 20)
    losses = np.concatenate([window.losses for window in windows])
    assert len(losses) == trainer.total_steps
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


@pytest.mark.parametrize(
    "rule",
    [lg.InferenceLearning(), lg.FixedPrediction(), lg.ActivationRelaxation(), lg.FaZIL()],
    ids=lambda rule: rule.name,
)
def test_every_rule_trains_with_its_own_settings(rule):
    metrics = trained(dataclasses.replace(QUICK, rule=rule, epochs=4, learning_rate=1e-2))
    assert metrics.accuracy > 0.85


@pytest.mark.parametrize("loss", ["squared", "squared-softmax", "squared-sum"])
def test_other_losses_train(loss):
    metrics = trained(dataclasses.replace(QUICK, loss=loss, epochs=4, learning_rate=1e-2))
    assert metrics.accuracy > 0.7


def test_the_vertices_can_be_chosen():
    quick = dataclasses.replace(QUICK, rule=lg.FixedPrediction(steps=20, rate=1.0))
    marked, elementary = (
        Trainer(dataclasses.replace(quick, vertices=vertices)) for vertices in (None, "elementary")
    )
    depths = [t.compare(t.model.params).depth for t in (marked, elementary)]
    assert depths[0] == 1
    assert depths[1] > 4


def test_what_is_measured_has_the_chosen_vertices():
    """One step reaches past one vertex."""
    quick = dataclasses.replace(QUICK, rule=lg.FixedPrediction(steps=1, rate=1.0))
    trainers = [
        Trainer(dataclasses.replace(quick, vertices=vertices), ONE)
        for vertices in (None, "elementary")
    ]
    marked, elementary = (
        Measure.by_measure(jax.device_get(Measure(t)(t.model.params)))["cosine"] for t in trainers
    )
    assert marked[".layers[0].weight"] > 0.999
    assert elementary[".layers[0].weight"] != pytest.approx(1, abs=0.01)


def test_a_large_test_set_is_evaluated_in_parts(monkeypatch):
    trained = Trainer(QUICK, ONE)
    at_once = trained.accuracy(trained.model.params)
    monkeypatch.setattr(trainer, "EVALUATED", 101)
    assert trained.accuracy(trained.model.params) == at_once


def test_a_short_training_reaches_its_accuracy():
    reports = list(Run(Trainer(Config(epochs=8), ONE), Watch()).progress())
    assert [r.step for r in reports if r.accuracy is not None] == [44 * e for e in range(1, 9)]
    assert reports[-1].accuracy > 0.95


def test_step_times_are_measured_for_both():
    trainer = Trainer(QUICK, ONE)
    times = trainer.time_steps(trainer.model.params, rounds=5)
    assert times.rounds == 5
    assert times.rule > 0
    assert times.ratio == times.rule / times.backprop
    assert trainer.time_steps(trainer.model.params, rounds=5, seconds=0).rounds == 1

"""Training."""

import dataclasses

import jax
import numpy as np
import pytest

import localgrad as lg
from localgrad.experiments import training
from localgrad.experiments.training import Config, DivergedError, Trainer

QUICK = Config(hidden=(32,), epochs=2, batch_size=128)


def trained(config):
    return list(Trainer(config).train())[-1]


def assert_same_arrays(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


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
    trainer = Trainer(dataclasses.replace(config, batch_size=16 if name == "decoder" else 32))
    assert trainer.compare(trainer.model.params).max_rel <= 5e-6
    losses = [metrics.loss for metrics in trainer.train()]
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


@pytest.mark.parametrize("loss", ["squared", "squared-softmax"])
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


def test_a_large_test_set_is_evaluated_in_parts(monkeypatch):
    trainer = Trainer(QUICK)
    at_once = trainer.accuracy(trainer.model.params)
    monkeypatch.setattr(training, "EVALUATED", 101)
    assert trainer.accuracy(trainer.model.params) == at_once


def test_training_is_deterministic_from_the_seed():
    first, second = trained(QUICK), trained(QUICK)
    assert first.loss == second.loss
    assert_same_arrays(first.params, second.params)
    other = trained(dataclasses.replace(QUICK, seed=1))
    assert other.loss != first.loss


def test_zil_trains_as_backpropagation_does():
    zil = trained(QUICK)
    backprop = trained(dataclasses.replace(QUICK, rule=lg.Backprop()))
    assert zil.accuracy == backprop.accuracy
    for a, b in zip(jax.tree.leaves(zil.params), jax.tree.leaves(backprop.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_short_training_reaches_its_accuracy():
    metrics = list(Trainer(Config(epochs=8)).train())
    assert [m.step for m in metrics] == list(range(1, 8 * 44 + 1))
    assert [m.step for m in metrics if m.accuracy is not None] == [44 * e for e in range(1, 9)]
    assert metrics[-1].accuracy > 0.95


def test_step_times_are_measured_for_both():
    trainer = Trainer(QUICK)
    times = trainer.time_steps(trainer.model.params, rounds=5)
    assert times.rounds == 5
    assert times.rule > 0
    assert times.ratio == times.rule / times.backprop
    assert trainer.time_steps(trainer.model.params, rounds=5, seconds=0).rounds == 1


def test_a_loss_that_is_not_finite_ends_the_training():
    with pytest.raises(DivergedError, match="at step"):
        trained(dataclasses.replace(QUICK, learning_rate=1e30))


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"learning_rate": 0.0}, {"seed": -1}, {"batch_size": 0}, {"loss": "absolute"}],
)
def test_configurations_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"must|choose"):
        Trainer(dataclasses.replace(QUICK, **wrong))

"""Data, models and training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import localgrad as lg
from localgrad.experiments.data import batch_indices, load_digits, steps_per_epoch
from localgrad.experiments.models import MODELS, build
from localgrad.experiments.training import Config, DivergedError, Trainer

QUICK = Config(hidden=(32,), epochs=2, batch_size=128)


def trained(config):
    return list(Trainer(config).train())[-1]


def assert_same_arrays(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_digits_are_split_by_class_and_by_seed():
    digits, again, other = load_digits(0), load_digits(0), load_digits(1)
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.test_images.shape == (360, 1, 8, 8)
    assert digits.train_images.dtype == np.float32
    assert digits.train_labels.dtype == np.int32
    assert digits.train_images.min() == 0
    assert digits.train_images.max() == 1
    counts = np.bincount(digits.test_labels)
    assert counts.min() >= 34
    assert counts.max() <= 38
    assert_same_arrays(dataclasses.astuple(digits), dataclasses.astuple(again))
    assert (digits.test_images != other.test_images).any()


def test_batches_are_a_pure_function_of_seed_and_step():
    forward = [batch_indices(3, step, 100, 30) for step in range(9)]
    backward = [batch_indices(3, step, 100, 30) for step in reversed(range(9))]
    assert_same_arrays(forward, backward[::-1])
    epoch = np.concatenate(forward[:3])
    assert len(set(epoch)) == 90
    assert (forward[0] != forward[3]).any()
    assert (forward[0] != batch_indices(4, 0, 100, 30)).any()


@pytest.mark.parametrize("size", [0, -1, 101])
def test_batches_that_cannot_be_drawn(size):
    with pytest.raises(ValueError, match="choose a batch size from 1 to 100"):
        steps_per_epoch(100, size)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("hidden", [(), (8, 8, 8)])
def test_models_map_images_to_logits(name, hidden):
    model = build(name, hidden, seed=0)
    images = jax.ShapeDtypeStruct((5, 1, 8, 8), jnp.float32)
    logits = jax.eval_shape(model.apply, model.params, images)
    assert logits.shape == (5, 10)
    assert logits.dtype == jnp.float32
    assert_same_arrays(model.params, build(name, hidden, seed=0).params)


@pytest.mark.parametrize(
    ("name", "hidden", "message"),
    [
        ("perceptron", (), "no model 'perceptron'"),
        ("mlp", (8, 0), "must be positive"),
        ("residual", (6,), "channels that 4 divides"),
    ],
)
def test_models_that_cannot_be_built(name, hidden, message):
    with pytest.raises(ValueError, match=message):
        build(name, hidden, seed=0)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_and_agrees_with_backpropagation(name):
    hidden = (8, 8) if name in ("cnn", "residual") else (32,)
    trainer = Trainer(Config(model=name, hidden=hidden, epochs=2, learning_rate=1e-2))
    assert trainer.compare(trainer.model.params).max_rel <= 5e-6
    losses = [metrics.loss for metrics in trainer.train()]
    assert len(losses) == trainer.total_steps
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


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
    "wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"seed": -1}, {"batch_size": 0}]
)
def test_configurations_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"must|choose"):
        Trainer(dataclasses.replace(QUICK, **wrong))

"""A rule's dynamics on a function, step by step, for tests that look inside."""

import jax
import jax.numpy as jnp
from jax import lax

from localgrad._call import Signature
from localgrad._engine import assembled, over_time, trial


class Simulated:
    """The dynamics of a rule on `f(*args)`; entries of vertices in the order of computation."""

    def __init__(self, f, args, rule, vertices=None):
        call = Signature.of(f, 0, False, False, False, rule, vertices).bind(args, {})
        traced = call.problem.traced(units=rule.derivatives != "everywhere")
        self.rule, self.leaves = rule, traced.leaves
        self.inputs = traced.before, traced.rest
        self.dynamics = assembled(rule, traced.network, traced.before, traced.rest)
        self.network = self.dynamics.network
        self.forward = self.dynamics.forward(self.leaves)
        phases = rule.phases(self.network.depth)
        kind, each = self.forward.loss.dtype, [phase.nudge for phase in phases]
        self.nudges = over_time(phases, each, kind)[:-1]
        self.read = phases[-1].read
        self.every = phases[-1].every

    def entries(self, state):
        """What belongs to each vertex."""
        return jax.tree.structure(self.network.vertices).flatten_up_to(state)

    @property
    def levels(self):
        return self.entries(self.network.levels)

    @property
    def stored(self):
        return self.entries(self.forward.stored)

    def begin(self):
        return self.dynamics.begin(self.forward)

    def nudge(self, now):
        return self.nudges[jnp.minimum(now.time, len(self.nudges) - 1)]

    def step(self, now):
        return self.dynamics.step(self.leaves, self.forward, now, self.nudge(now))

    def neurons(self, now):
        return self.entries(now.neurons)

    def signals(self, now):
        """Predictions, errors and feedback, each a list."""
        found = self.dynamics.signals(self.leaves, self.forward, now, self.nudge(now))
        return type(found)(*map(self.entries, found))

    def gradients(self, now):
        """What is read now: of all vertices, or of those that are plastic."""
        nudge = self.nudge(now)
        found = self.dynamics.read(self.leaves, self.forward, now, nudge, self.every)
        return [fb * self.read for fb in found]

    def plastic(self, now):
        """Of each copy of a vertex, and last of the loss, whether its synapses learn now."""
        found, root = self.dynamics.plastic(self.forward, now, self.nudge(now))
        return [*self.entries(found), root]

    def outcome(self):
        return trial(self.dynamics, self.leaves, self.forward)

    def course(self, steps, *what):
        """What is to be seen before each step, and after the last."""

        def one(now, _):
            return self.step(now), [of(now) for of in what]

        return lax.scan(one, self.begin(), None, steps + 1)[1]

"""What a rule cannot be simulated on, found before it runs."""

from typing import Any

from localgrad._jaxpr import explain, is_summed_later, located_at, sends_unasked
from localgrad._network import Network, reached
from localgrad._protocol import Rule

DO = "use another rule, e.g. localgrad.ZIL(), or localgrad.ZIL(clock=True) to see the wave."


def check_followed(rule: Rule, network: Network) -> None:
    """Raise an error where pulses of a rule would go astray, or the nudge cannot be held.

    Raises:
        ValueError: where a message arrives though no error was sent, or the loss is reduced over an
            axis of a mesh.
    """
    loss = network.body.jaxpr.outvars[0]
    if is_summed_later(loss.aval):
        met = f"{type(rule).__name__} met a loss that is reduced over an axis of a mesh."
        do = "return jax.reshard(loss, jax.P()), or use localgrad.ZIL(), which runs on events."
        made = [e for e in network.body.jaxpr.eqns if loss in e.outvars]
        raise ValueError(explain(met, located_at(made[0]) if made else "its value", do))
    if "pulse" not in rule.asks and "moved" not in rule.asks:
        return

    def goes_astray(eqn: Any, given: tuple[bool, ...], _: object) -> bool:
        return sends_unasked(eqn, given)

    for eqn, call in reached(network.body.jaxpr, network.leaves, goes_astray):
        met = (
            "a custom_vjp function whose backward pass sends a message though no error has "
            "arrived: its synapses would learn at the wrong time."
        )
        raise ValueError(explain(f"{type(rule).__name__} met {met}", located_at(eqn, call), DO))

"""What a rule cannot be simulated on, found before it runs."""

from typing import Any

from localgrad._jaxpr import explain, located_at, sends_unasked
from localgrad._network import Network, reached
from localgrad._protocol import Rule

DO = "use another rule, e.g. localgrad.ZIL(), or localgrad.ZIL(clock=True) to see the wave."


def check_followed(rule: Rule, network: Network) -> None:
    """Raise an error where pulses of a rule would go astray.

    Raises:
        ValueError: where a message arrives though no error was sent.
    """
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

"""What a rule cannot be simulated on, found before it runs."""

from typing import Any

from localgrad._jaxpr import (
    explain,
    inner,
    is_reference,
    located_at,
    opened,
    sends_unasked,
)
from localgrad._network import Network
from localgrad._protocol import Rule


def check_followed(rule: Rule, network: Network) -> None:
    """Raise an error where pulses of a rule would go astray.

    Raises:
        ValueError: where a message arrives though no error was sent, or a value travels through a
            mutable reference.
    """
    if "pulse" in rule.asks or "moved" in rule.asks:
        _check(type(rule).__name__, network.body.jaxpr)


def _check(rule: str, jaxpr: Any) -> None:
    for eqn in jaxpr.eqns:
        do = "use another rule, e.g. localgrad.ZIL(), or localgrad.ZIL(clock=True) to see the wave."
        if any(is_reference(v.aval) for v in (*eqn.invars, *eqn.outvars)):
            met = f"{rule} met a mutable reference, through which it cannot follow what has moved."
            raise ValueError(explain(met, located_at(eqn), do))
        if sends_unasked(eqn):
            met = (
                f"{rule} met a custom_vjp function whose backward pass sends a message though no "
                "error has arrived: its synapses would learn at the wrong time."
            )
            raise ValueError(explain(met, located_at(eqn), do))
        for held in inner(eqn).values():
            for body in held:
                _check(rule, opened(body)[0])

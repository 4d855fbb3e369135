"""Numbers with a range: what the help says of it and what is refused come from one place."""

import operator
from collections.abc import Sequence
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

RELATIONS = {">=": operator.ge, ">": operator.gt}


def _ranged(
    kind: type[int] | type[float], relation: str, bound: int, several: bool = False
) -> PrimitiveConstructorSpec[Any]:
    """How an option is read whose number, or numbers, stand in a relation to a bound."""
    metavar = f"{'INT' if kind is int else 'FLOAT'}{relation}{bound}"

    def number(text: str) -> float:
        value = kind(text)
        if not RELATIONS[relation](value, bound):
            raise ValueError(f"{text} is not {relation} {bound}")
        return value

    def read(texts: Sequence[str]) -> Any:
        return tuple(map(number, texts)) if several else number(texts[0])

    return PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"{metavar} ..." if several else metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) == several,
        str_from_instance=lambda value: list(map(str, value)) if several else [str(value)],
    )


Count = Annotated[int, _ranged(int, ">=", 1)]
"""How many of something that cannot do without any."""

Natural = Annotated[int, _ranged(int, ">=", 0)]

Sizes = Annotated[tuple[int, ...], _ranged(int, ">=", 1, several=True)]

Positive = Annotated[float, _ranged(float, ">", 0)]

NotNegative = Annotated[float, _ranged(float, ">=", 0)]

Bound = Annotated[float | None, _ranged(float, ">=", 0)]
"""A limit that may be left out."""

"""What a vertex knows of itself, from the moment its program is traced."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Vertex:
    """A vertex of a network: one value that answers to errors.

    Attributes:
        name: The mark's name, or the operation; with a number where it occurs again.
        operation: The JAX primitive.
        origin: ``file:line`` in the user's code.
        scope: Named scopes (``jax.named_scope``, Equinox and Flax modules) around it.
        place: The scans, branches and checkpoints that it stands in, outermost first.
        lengths: The iterations of the scans among them: there is a copy of it in each.
        shape, dtype: Those of one copy's value.
        is_relay: Whether it only hands on what its parent held one step ago.
        index: The iterations that this one copy stands in, where scans are unrolled.
    """

    name: str
    operation: str
    origin: str
    scope: str
    place: tuple[str, ...]
    lengths: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any
    is_relay: bool = False
    index: tuple[int, ...] = ()


class Tag(str):
    """The mark of a vertex in a program that was made from another: it carries the vertex."""

    vertex: Vertex

    @classmethod
    def of(cls, vertex: Vertex) -> "Tag":
        """The mark of a vertex."""
        tag = cls(vertex.name + "".join(f"[{k}]" for k in vertex.index))
        tag.vertex = vertex
        return tag

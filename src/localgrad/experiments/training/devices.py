"""Data parallelism: every device has a part of the batch, and all have the parameters."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Devices:
    """The devices of a run, of all its processes.

    Args:
        devices: Those to use; all of them by default.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        self._mesh = Mesh(jax.devices() if devices is None else list(devices), ("batch",))
        self.everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._parts = NamedSharding(self._mesh, PartitionSpec("batch"))

    def __len__(self) -> int:
        return self._mesh.size

    @property
    def are_in_order(self) -> bool:
        """Whether programs run in the order in which they are handed over.

        On several devices of a CPU they do not: two steps at once can keep the threads from each
        other, for ever.
        """
        return len(self) == 1 or self._mesh.devices.flat[0].platform != "cpu"

    def check(self, batch_size: int) -> None:
        """See to it that a batch can be divided.

        Raises:
            ValueError: if it cannot.
        """
        if batch_size % len(self):
            raise ValueError(
                f"a batch of {batch_size} cannot be divided among {len(self)} devices; choose a "
                f"multiple of {len(self)}"
            )

    def copied(self, tree: Any) -> Any:
        """A pytree of arrays on every device."""
        return jax.device_put(tree, self.everywhere)

    def divided(self, batch: jax.Array) -> jax.Array:
        """Inside of a compiled function: the examples of a batch, divided among the devices."""
        return jax.lax.with_sharding_constraint(batch, self._parts)

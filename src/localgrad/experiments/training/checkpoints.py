"""Checkpoints: the state of a run on the disk, whole or not at all (Orbax)."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from localgrad.experiments.training.folder import reading


def has_checkpoint(folder: Path) -> bool:
    """Whether a folder of checkpoints holds one that is whole; the folder may not be there."""
    return folder.exists() and any(path.name.isdigit() for path in folder.iterdir())


class Checkpoints:
    """The last checkpoints in a folder.

    Orbax writes in the background, under a name that a reader passes over until all is written.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._folder = folder
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    @property
    def latest(self) -> int | None:
        """The step of the newest one; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Save a state, unless that of its step has been saved."""
        if self.latest != step:
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, like: Any) -> Any:
        """The newest state, as arrays that lie where those of `like` do.

        Raises:
            FolderError: if it cannot be read.
        """
        *older, newest = sorted(self._manager.all_steps())
        then = f"goes on from step {older[-1]}" if older else "begins anew"
        advice = f"if it is damaged, remove that folder: the run then {then}"
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with reading(self._folder / str(newest), advice):
            return self._manager.restore(newest, args=ocp.args.StandardRestore(shapes))

    def close(self) -> None:
        """Wait until all is written."""
        self._manager.close()

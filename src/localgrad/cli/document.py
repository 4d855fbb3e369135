"""Results as JSON, with the field names of the objects."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import localgrad as lg


def print_document(value: Any) -> None:
    """Print one JSON document on standard output: indented on a terminal, else in one line."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(document(value), indent=indent, allow_nan=False))


def document(value: Any, *properties: str, without: tuple[str, ...] = ()) -> Any:
    """What JSON can say of a value.

    Numbers that are not finite are the strings ``"nan"``, ``"inf"`` and ``"-inf"``: JSON has no
    others, and null would compare as smaller than any limit.

    Args:
        value: A dataclass, with its public fields; a named tuple; or anything inside of one.
        properties: Further attributes of a dataclass.
        without: Fields that are left out.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return document(value._asdict())
    if is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in fields(value) if not f.name.startswith("_")]
        named = ["name"] if isinstance(value, lg.Rule) else []
        shown = [name for name in [*named, *names, *properties] if name not in without]
        return {name: document(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {str(key): document(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [document(entry) for entry in value]
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return document(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value

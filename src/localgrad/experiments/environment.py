"""What numbers were made with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax

import localgrad as lg

PACKAGES = ("jax", "jaxlib", "numpy", "optax", "equinox")


def environment() -> dict[str, Any]:
    """The versions and the devices of this process."""
    return {
        "python": platform.python_version(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "versions": {"localgrad": lg.__version__, **{name: _version(name) for name in PACKAGES}},
    }


def machine() -> dict[str, Any]:
    """What times depend on: the kind of the device, and the number of cores."""
    return {"device": jax.devices()[0].device_kind, "cores": os.cpu_count()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"

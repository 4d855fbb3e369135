"""Eight host devices, and how many random programs are tried."""

import os

import hypothesis
import pytest

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

hypothesis.settings.register_profile("default", derandomize=True, max_examples=40, deadline=None)
hypothesis.settings.register_profile("fuzz", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    # Equinox on JAX 0.8 reads these names when it is imported.
    config.addinivalue_line(
        "filterwarnings", r"ignore:jax\.core\.(un)?mapped_aval is deprecated:DeprecationWarning"
    )

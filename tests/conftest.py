"""Eight host devices, how many rows of a table are tried, and no figures left open."""

import os
import sys
from collections import defaultdict

import hypothesis
import pytest

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

hypothesis.settings.register_profile("default", derandomize=True, max_examples=20, deadline=None)
hypothesis.settings.register_profile("fuzz", max_examples=3000, deadline=None)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    # Equinox and Haiku read such names of JAX 0.8 when they are imported.
    config.addinivalue_line(
        "filterwarnings", r"ignore:jax\.core\.\w+ is deprecated:DeprecationWarning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test with ``rows(n)``, n rows of its table stand for all; the others are long."""
    tables = defaultdict(list)
    for item in items:
        if item.get_closest_marker("rows") and not item.get_closest_marker("matrix"):
            tables[item.nodeid.split("[")[0]].append(item)
    for rows in tables.values():
        (count,) = rows[0].get_closest_marker("rows").args
        chosen = {k * len(rows) // count for k in range(count)}
        for k, item in enumerate(rows):
            if k not in chosen:
                item.add_marker("long")


@pytest.fixture(autouse=True)
def no_figures_left():
    """A figure that a test or an example leaves open would be the next test's current one."""
    yield
    if "matplotlib.pyplot" in sys.modules:  # slow to import, and few tests draw
        sys.modules["matplotlib.pyplot"].close("all")

"""How the tests share a machine: long files first, one thread a process when several work at once. No deadlines."""

import os

import pytest
from hypothesis import settings

LONGEST_FIRST = (
    "test_train_embedded",
    "test_engine_vllm",
    "test_publish",
    "test_build",
    "test_build_real",
    "test_train_methods",
    "test_train_hub",
    "test_engine_server",
    "test_crashes",
    "test_audit_server",
    "test_audit_faults",
    "test_eval_experiment",
)
"""Files with minutes of work; one of them begun last would keep all other workers waiting."""

settings.register_profile("patient", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("patient")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of neighbours would only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; within a file nothing moves."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))

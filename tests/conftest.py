"""How the tests share a machine: long files first, one thread a process where several work side by side."""

import os

import pytest

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

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of neighbours would only wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; within a file nothing moves."""
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))

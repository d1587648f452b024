"""What is installed is what was tested: pinned, with hashes, and every direct dependency with a reason."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GPU_ONLY = {"vllm"}
"""Locked by whoever has the machine: its torch depends on the driver."""


def name_of(requirement: str) -> str:
    """`Foo_bar[x]>=1` as `foo-bar`."""
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def direct() -> set[str]:
    """Every package that the project names."""
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(line for extra in extras for line in extras[extra])]
    return {name_of(line) for line in named} - GPU_ONLY


def locked() -> dict[str, tuple[str, int]]:
    """Package to version and number of hashes."""
    text = (ROOT / "requirements.lock").read_text()
    found = {}
    for block in re.split(r"\n(?=\S)", text):
        if match := re.match(r"([A-Za-z0-9._-]+)==(\S+)", block):
            found[name_of(match[1])] = match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block))
    return found


def test_every_package_of_the_tested_set_is_locked_with_hashes():
    lock = locked()
    assert [name for name, (_, hashes) in lock.items() if hashes == 0] == []
    assert direct() - set(lock) == set(), "run `make lock`"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    other = {
        name: (version, lock[name_of(name)][0])
        for name, version in pins.items()
        if name_of(name) in lock and lock[name_of(name)][0].removesuffix("+cpu") != version
    }
    assert other == {}, "constraints.txt and requirements.lock differ: run `make lock`"


def test_the_lock_names_no_place():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--index|--find-links|file:|@ ", text)


def test_every_direct_dependency_has_its_reason_in_the_readme():
    section = (ROOT / "README.md").read_text().split("## Dependencies")[1].split("\n## ")[0]
    named = {
        name_of(word)
        for row in re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
        for word in re.split(r"[,/ ]+", row)
        if word
    }
    assert direct() - named == set()

"""The house keeps its own rules: which way imports point, what is light, what is named where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "schemas": set(),
    "specs": {"schemas"},
    "builders": {"schemas", "specs"},
    "cards": {"schemas"},
    "train": {"schemas", "specs", "builders"},
}
ROOMS = set(ALLOWED)
BASE = {"errors", "version"}


def imported(path):
    """Rooms of specdistill that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            parts = name.split(".")
            if parts[0] == "specdistill" and len(parts) > 1:
                yield parts[1]
            assert parts[0] not in ROOMS, f"{path}: a bare import of '{name}' loads a second copy"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_point_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        wrong = set(imported(path)) - ALLOWED[room] - BASE - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_distilabel_argilla_and_hub_writes_stay_at_home():
    homes = {"distilabel": "builders", "argilla": "builders"}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                home = homes.get((module or "").split(".")[0])
                assert home in (None, room), f"{path.relative_to(ROOT)} imports {module}"


def test_the_command_line_starts_light():
    program = (
        "import sys; import specdistill.cli.app; "
        "print([m for m in ('torch', 'vllm', 'trl', 'argilla', 'distilabel', 'polars', 'datasets', 'transformers', "
        "'matplotlib', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_is_in_the_readme_and_has_help():
    from specdistill.cli.app import app

    readme = (ROOT / "README.md").read_text()
    runner = CliRunner()
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    for name in sorted(names):
        assert f"specdistill {name}" in readme, f"README does not show `specdistill {name}`"
        assert runner.invoke(app, [name, "--help"]).exit_code == 0


def test_every_command_the_readme_shows_exists():
    import re

    from specdistill.cli.app import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    shown = set(re.findall(r"^specdistill ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown <= names, shown - names


def test_the_readme_names_its_two_commands_as_make_knows_them():
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "lint", "clean"):
        assert f"\n{target}:" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()

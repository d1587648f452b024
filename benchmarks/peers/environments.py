"""Each contestant's own environment: made once with uv in the user's cache, named by what is in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Contestant:
    """Who does the work.

    Attributes:
        name: on the command line.
        title: in the table.
        worker: file beside this one.
        packages: requirements of its environment; empty for ours, which runs where this script does.
        shown: the packages whose versions the table names.
        overrides: requirements that take the place of what a package asks for, where that cannot be had everywhere.
    """

    name: str
    title: str
    worker: str
    packages: tuple[str, ...]
    shown: tuple[str, ...]
    overrides: tuple[str, ...] = ()


CONTESTANTS = {
    one.name: one
    for one in (
        Contestant("ours", "specdistill", "ours.py", (), ("specdistill", "aiohttp", "distilabel")),
        Contestant(
            "bare", "plain aiohttp script", "bare.py", ("aiohttp==3.14.5", "orjson>=3.10"), ("aiohttp", "orjson")
        ),
        Contestant(
            "curator",
            "Curator",
            "curator.py",
            ("bespokelabs-curator==0.1.31",),
            ("bespokelabs-curator", "openai", "aiohttp", "datasets"),
        ),
        Contestant(
            "designer",
            "NeMo Data Designer",
            "designer.py",
            ("data-designer==0.9.7",),
            ("data-designer", "httpx"),
            ("certifi",),  # asks for a release of the last weeks, which mirrors may lack
        ),
        # Its 1.5.3 imports requests and Pillow without declaring them.
        Contestant(
            "stock",
            "distilabel, its own engine",
            "stock.py",
            ("distilabel[openai]==1.5.3", "requests", "pillow"),
            ("distilabel", "openai", "datasets"),
        ),
    )
}


def cache_folder() -> Path:
    """`~/.cache/specdistill/peers`, under $XDG_CACHE_HOME if set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specdistill" / "peers"


def python_of(one: Contestant, cache: Path) -> Path:
    """The interpreter of a contestant's environment, which is made if it is not there.

    Raises:
        SystemExit: uv is missing, or something cannot be installed.
    """
    if not one.packages:
        return Path(sys.executable)
    mark = blake2b(" ".join((*one.packages, *one.overrides)).encode(), digest_size=4).hexdigest()
    folder = cache / f"{one.name}-{mark}-py{sys.version_info.major}{sys.version_info.minor}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if ready.exists():
        return python
    uv = shutil.which("uv")
    if uv is None:
        raise SystemExit("uv is not installed: pip install uv")
    shutil.rmtree(folder, ignore_errors=True)
    print(f"installing {' '.join(one.packages)} into {folder}", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    overrides = folder.with_suffix(".overrides")
    overrides.write_text("\n".join(one.overrides))
    for line in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), "--overrides", str(overrides), *one.packages],
    ):
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(line[:3])} failed for {one.name}:\n{done.stderr[-2000:]}")
    ready.touch()
    return python


def versions_of(one: Contestant, python: Path) -> dict[str, str]:
    """Package to installed version, of the packages that the table names."""
    program = "import sys; from importlib.metadata import version\nfor name in sys.argv[1:]: print(name, version(name))"
    done = subprocess.run([python, "-c", program, *one.shown], capture_output=True, text=True, check=True)
    return dict(line.split(maxsplit=1) for line in done.stdout.splitlines())

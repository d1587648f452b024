"""Secrets stay where they are: planted keys are looked for in everything that a run and a release produced."""

import sqlite3
import time
from pathlib import Path

import polars as pl
import pytest
from fake_openai_server import FakeOpenAI, Rule
from fault_harness import write_recipe
from forked_cli import ForkedCLI

pytestmark = pytest.mark.integration

CANARIES = {
    "OPENAI_API_KEY": "sk-canary-generator-0123456789abcdef",
    "OUR_JUDGE_KEY": "sk-canary-generator-0123456789abcdef",
    "HF_TOKEN": "hf_canaryhubtoken0123456789abcdefghij",
}


@pytest.fixture(scope="module")
def produced(tmp_path_factory):
    """Everything that a run with planted canaries left: (place, bytes)."""
    folder = tmp_path_factory.mktemp("canaries")
    homes = {name: str(folder / name.lower()) for name in ("HOME", "TMPDIR", "HF_HOME", "XDG_CACHE_HOME")}
    for home in homes.values():
        Path(home).mkdir()
    said, running = [], []
    with ForkedCLI(folder / "cli", env=CANARIES | homes | {"DISTILABEL_LOG_LEVEL": "DEBUG"}) as cli:
        out, key = folder / "run", CANARIES["OPENAI_API_KEY"]
        # Some gateways quote the key in their refusals, some rows therefore in their reasons.
        with FakeOpenAI(Rule("quotes_key", share=0.3), key=key, latency=0.05, seed=1) as server:
            recipe = write_recipe(folder, server.url)
            text = recipe.read_text().replace("judge: {", "judge: {api_key_env: OUR_JUDGE_KEY, ")
            recipe.write_text(text + "licences: {dataset: CC-BY-4.0}\n")
            said.append(cli.run("build", recipe, "--preview", "2").output)
            cli.start("build", recipe, "--out", out)
            time.sleep(0.3)
            running += command_lines()
            said.append(cli.wait().output)
            assert server.served["quotes_key"] > 0
        with FakeOpenAI(key="another") as refusing:
            done = cli.run("build", write_recipe(folder, refusing.url), "--out", folder / "refused")
            assert "HTTP 401" in done.output
            said.append(done.output)
        said += [cli.run(*words).output for words in commands(out, folder)]
    assert (out / "manifest.json").exists()
    assert (folder / "release" / "README.md").exists(), said[-1]
    return [("terminal", text.encode()) for text in said] + running + files(folder)


def commands(out, folder):
    """What a user would look at afterwards."""
    yield "status", out
    yield "status", out, "--json"
    yield "report", out, "--json"
    yield "publish", out, "--to-dir", folder / "release", "--version", "1.0.0"
    yield "publish", "--check", folder / "release"


def command_lines():
    """What `ps` shows of every process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield f"ps {path.parent.name}", path.read_bytes()
        except OSError:  # it has ended
            continue


def files(folder):
    """Every file, unpacked where it is packed."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        found.append((str(path), path.read_bytes()))
        if path.suffix == ".parquet":
            found.append((f"{path} as rows", pl.read_parquet(path).write_ndjson().encode()))
        if path.suffix == ".sqlite":
            connection = sqlite3.connect(path)
            found.append((f"{path} as SQL", "\n".join(connection.iterdump()).encode()))
            connection.close()
    return found


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_is_anywhere(produced, name):
    canary = CANARIES[name].encode()
    assert [place for place, data in produced if canary in data or canary[:20] in data] == []


def test_the_search_would_find_one(produced):
    places = [place for place, data in produced if b"not with Bearer ***" in data]
    assert any(place.endswith("as rows") for place in places), "the quoted key, cleaned, is a reason in rows"
    assert any(place.endswith("as SQL") for place in places)
    kinds = {Path(place.split(" as ")[0]).suffix for place, _ in produced}
    assert {".json", ".yaml", ".md", ".parquet", ".sqlite", ".png"} <= kinds
    assert any(place.startswith("ps ") and b"forked_cli" in data for place, data in produced)

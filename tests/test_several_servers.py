"""Whole builds against several servers: one dies or is slow, and the run is the same; all die, and it can go on."""

from __future__ import annotations

import pytest
from build_helpers import different, finished, sent, write_recipe
from fake_openai_server import FakeOpenAI, Mortal
from forked_cli import ForkedCLI

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cli(tmp_path_factory):
    with ForkedCLI(tmp_path_factory.mktemp("servers")) as forked:
        yield forked


@pytest.fixture(scope="module")
def plain(cli, tmp_path_factory):
    """The undisturbed run, with one server."""
    folder = tmp_path_factory.mktemp("plain")
    with FakeOpenAI() as server:
        done = cli.run("build", write_recipe(folder, server.url), "--out", folder / "run")
    assert done.code == 0, done.output
    return folder / "run"


def build(cli, folder, *servers):
    """One build with these servers as a list in place of the recipe's."""
    listed = f"[{', '.join(server.url for server in servers)}]"
    words = [f"--set={role}.base_url={listed}" for role in ("generator", "judge")]
    return cli.run("build", write_recipe(folder, "http://127.0.0.1:9/v1"), "--out", folder / "run", *words)


def test_a_server_that_dies_and_one_that_is_slow_change_nothing_in_the_run(cli, plain, tmp_path):
    with Mortal(20, latency=0.05) as mortal, FakeOpenAI(latency=0.5) as slow, FakeOpenAI(latency=0.05) as well:
        done = build(cli, tmp_path, mortal, slow, well)
    assert done.code == 0, done.output
    assert "failed" not in done.output
    assert different(tmp_path / "run", plain) == []
    assert set(finished(tmp_path / "run")) == set(finished(plain))
    assert mortal.left <= 0
    assert 0 < mortal.calls < 20
    assert 0 < slow.calls < well.calls


def test_when_none_is_left_the_build_ends_and_other_servers_finish_it(cli, plain, tmp_path):
    with Mortal(15, latency=0.05) as one, Mortal(15, latency=0.05) as other:
        done = build(cli, tmp_path, one, other)
    assert done.code == 1
    assert f"{one.url}, {other.url} gives no completions" in " ".join(done.output.split())
    assert 0 < len(finished(tmp_path / "run")) < len(finished(plain))
    with FakeOpenAI() as third:
        done = build(cli, tmp_path, third)
    assert done.code == 0, done.output
    assert different(tmp_path / "run", plain) == []
    first = {key for key, session in finished(tmp_path / "run").items() if session == 1}
    assert first & {key for key, session in sent(tmp_path / "run") if session == 2} == set()

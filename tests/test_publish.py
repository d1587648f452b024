"""Releases over real HTTP with the real clients, through Xet and without: what is there is whole, and there once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from hub_fixture import Fault, RunningHub, Worker, releases, running_hub
from run_fixture import put_set, recipe, write_run

from specdistill.cards.hub.objects import Objects
from specdistill.cards.tree import Ask, build_tree
from specdistill.schemas.configs import TABLES
from specdistill.schemas.features import features
from specdistill.schemas.layout import RunLayout
from specdistill.schemas.verify import read_manifest, verify_tree

pytestmark = pytest.mark.integration
KILLS = int(os.environ.get("SPECDISTILL_KILLS", "6"))
"""Releases killed at a random moment."""
FAULT_STRIDE = int(os.environ.get("SPECDISTILL_FAULT_STRIDE", "4"))
"""Break every n-th request of a release, another n-th for each kind of fault; 1 breaks every one with every kind."""
RACES = int(os.environ.get("SPECDISTILL_RACES", "1"))
"""Rounds of eight publishers."""
MODES = [pytest.param(True, id="xet"), pytest.param(False, id="lfs")]


@dataclass
class Bench:
    """A running hub, workers by mode, a run, and its tree."""

    hub: RunningHub
    run: RunLayout
    tree: Path
    folder: Path
    stack: ExitStack
    workers: dict[bool, Worker] = field(default_factory=dict)
    made: int = 0

    def worker(self, xet: bool) -> Worker:
        if xet not in self.workers:
            self.workers[xet] = self.stack.enter_context(self.fresh(xet))
        return self.workers[xet]

    def fresh(self, xet: bool) -> Worker:
        """A new client process with a cache of its own."""
        self.made += 1
        return Worker(self.hub.env(self.folder / f"home{self.made}", xet=xet))

    def variant(self, name: str) -> Path:
        """The tree with one file of its own, so that something must be uploaded."""
        copy = self.folder / "trees" / name
        shutil.copytree(self.tree, copy)
        data = random.Random(name).randbytes(200_000)  # sent by itself: see release_worker.py
        (copy / "spec" / "own.bin").write_bytes(data)
        manifest = json.loads((copy / "manifest.json").read_text())
        manifest["files"]["spec/own.bin"] = {"sha256": sha256(data).hexdigest(), "bytes": len(data), "rows": None}
        (copy / "manifest.json").write_text(json.dumps(manifest, indent=2))
        return copy


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("hub")
    run = write_run(folder / "run", prompts=24)
    build_tree(run, folder / "tree", Ask("1.0.0", "CC0-1.0", languages=["en"]))
    with running_hub(folder / "served") as hub, ExitStack() as stack:
        yield Bench(hub, run, folder / "tree", folder, stack)


@pytest.fixture
def calm(bench: Bench) -> Iterator[Bench]:
    """The bench without a fault, before and after."""
    bench.hub.faulty.reset()
    yield bench
    bench.hub.faulty.reset()


@pytest.mark.parametrize("xet", MODES)
def test_publish_load_by_tag_publish_again(calm: Bench, xet: bool) -> None:
    worker, repo = calm.worker(xet), f"org/first-{xet}"
    first = worker.ask(do="run", run=str(calm.run.root), version="1.0.0", repo=repo)
    assert first["status"] == "released", first
    assert set(first["added"]) >= {"README.md", "manifest.json", "sft/train-00000-of-00001.parquet"}
    assert releases(calm.hub, repo) == {"v1.0.0": first["oid"]}

    again = worker.ask(do="run", run=str(calm.run.root), version="1.0.0", repo=repo)
    assert (again["status"], again["oid"]) == ("unchanged", first["oid"])
    repository = calm.hub.store.repository("datasets", repo)
    assert [commit.title for commit in repository.history("main")] == ["Release 1.0.0", "initial commit"]

    counts = read_manifest(calm.run.manifest).counts
    for config, splits in ((config, counts[config]) for config in ("sft", "judgments")):
        loaded = worker.ask(do="load", repo=repo, config=config, revision="v1.0.0")
        assert loaded.get("rows") == splits, loaded
        assert loaded["streamed"] == splits["train"]
        assert set(loaded["features"].values()) == {str(features(TABLES[config]))}
    fetched = Path(worker.ask(do="fetch", repo=repo, revision="v1.0.0")["folder"])
    assert fetched.name == first["oid"]
    assert verify_tree(fetched).release.version == "1.0.0"  # type: ignore[union-attr]


@pytest.mark.parametrize("xet", MODES)
def test_a_new_version_adds_and_drops_a_config_and_the_old_tag_still_loads(calm: Bench, xet: bool) -> None:
    worker, repo = calm.worker(xet), f"org/second-{xet}"
    strict = recipe(preference={"min_margin": 1.0})  # no pair has that margin, so the config has no rows
    without = write_run(calm.folder / f"without-{xet}", prompts=24, recipe=strict)
    assert worker.ask(do="run", run=str(without.root), version="1.0.0", repo=repo)["status"] == "released"
    more = worker.ask(do="run", run=str(calm.run.root), version="1.1.0", repo=repo)
    assert more["status"] == "released", more
    assert "preference is new" in more["schema"]
    assert "Config preference is new." in more["changes"]
    assert more["previous"] == "1.0.0"

    refused = worker.ask(do="run", run=str(without.root), version="1.2.0", repo=repo)
    assert refused["error"] == "PublishError"
    assert "breaking: preference is gone" in refused["message"]
    assert "2.0.0" in refused["message"]
    assert set(releases(calm.hub, repo)) == {"v1.0.0", "v1.1.0"}

    planned = worker.ask(do="run", run=str(without.root), version="2.0.0", repo=repo, dry_run=True)
    assert planned["status"] == "planned"
    assert any(name.startswith("preference/") for name in planned["removed"])
    assert set(releases(calm.hub, repo)) == {"v1.0.0", "v1.1.0"}
    major = worker.ask(do="run", run=str(without.root), version="2.0.0", repo=repo)
    assert major["status"] == "released", major
    assert set(releases(calm.hub, repo)) == {"v1.0.0", "v1.1.0", "v2.0.0"}

    pairs = read_manifest(calm.run.manifest).counts["preference"]
    assert worker.ask(do="load", repo=repo, config="preference", revision="v1.1.0")["rows"] == pairs
    assert "preference" in worker.ask(do="load", repo=repo, config="preference", revision="v2.0.0")["message"]
    assert worker.ask(do="load", repo=repo, config="sft", revision="v1.0.0")["rows"]["train"] > 0


def test_a_version_is_never_changed_and_never_goes_back(calm: Bench) -> None:
    worker, repo = calm.worker(False), "org/third"
    assert worker.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo=repo)["status"] == "released"
    other = calm.variant("other")
    refused = worker.ask(do="tree", folder=str(other), version="1.0.0", repo=repo)
    assert refused["error"] == "PublishError"
    assert "already released with other content" in refused["message"]
    assert "spec/own.bin" in refused["message"]
    older = worker.ask(do="tree", folder=str(other), version="0.9.0", repo=repo)
    assert "not newer than 1.0.0" in older["message"]
    assert set(releases(calm.hub, repo)) == {"v1.0.0"}


@pytest.mark.parametrize("xet", MODES)
def test_a_branch_and_a_pull_request(calm: Bench, xet: bool) -> None:
    worker, repo = calm.worker(xet), f"org/fourth-{xet}"
    asked = {"do": "tree", "folder": str(calm.tree), "version": "1.0.0", "repo": repo}
    proposed = worker.ask(**asked, pull_request=True)
    assert proposed["status"] == "proposed", proposed
    assert proposed["url"].endswith("/discussions/1")
    assert worker.ask(**asked, pull_request=True)["url"] == proposed["url"]  # proposed once
    repository = calm.hub.store.repository("datasets", repo)
    assert len(repository.refs()["pulls"]) == 1
    assert releases(calm.hub, repo) == {}
    with repository.changing() as refs:  # what the merge button does
        refs["branches"]["main"] = refs["pulls"]["refs/pr/1"]
    assert worker.ask(**asked)["status"] == "finished"
    assert releases(calm.hub, repo) == {"v1.0.0": proposed["oid"]}

    side = worker.ask(
        do="tree", folder=str(calm.variant(f"branch-{xet}")), version="1.0.0", repo=f"{repo}-b", branch="old"
    )
    assert side["status"] == "released", side
    refs = calm.hub.store.repository("datasets", f"{repo}-b").refs()
    assert refs["branches"]["old"] == side["oid"] != refs["branches"]["main"]


FAULTS = {
    "refused 503": ("refuse", 503),
    "refused 429": ("refuse", 429),
    "lost reply": ("lose", 200),
    "done, but 500": ("error", 500),
    "cut upload": ("cut", 200),
    "dropped": ("drop", 200),
}


def shape(request: str) -> str:
    """A request without its digests and names."""
    method, path = request.split(" ")
    steps = [("*" if len(step) >= 40 or step.startswith(("fault", "clean")) else step) for step in path.split("/")]
    return f"{method} {'/'.join(steps)}".replace(".git", "")


@pytest.mark.parametrize("xet", MODES)
@pytest.mark.parametrize("name", FAULTS)
def test_every_request_of_a_release_may_fail(calm: Bench, xet: bool, name: str) -> None:
    kind, status = FAULTS[name]
    worker, hub = calm.worker(xet), calm.hub
    label = f"{kind}{status}-{xet}"
    hub.faulty.reset()
    clean = worker.ask(
        do="tree", folder=str(calm.variant(f"clean-{label}")), version="1.0.0", repo=f"org/clean-{label}"
    )
    assert clean["status"] == "released", clean
    wanted = {shape(request) for request in hub.faulty.seen}
    requests = len(hub.faulty.seen)
    assert requests >= 11
    broken: set[str] = set()
    for number in range(list(FAULTS).index(name) % FAULT_STRIDE, requests, FAULT_STRIDE):
        repo = f"org/fault-{label}-{number}"
        folder = str(calm.variant(f"{label}-{number}"))
        hub.faulty.reset(Fault(number, kind, status))
        answer = worker.ask(do="tree", folder=folder, version="1.0.0", repo=repo)
        broken |= {shape(request.partition(" ")[2]) for request in hub.faulty.served}
        there = releases(hub, repo)  # whole if it is there at all
        if answer.get("status") in ("released", "finished", "unchanged"):
            assert set(there) == {"v1.0.0"}, (number, hub.faulty.served, answer)
        else:
            assert answer["error"] == "PublishError", (number, hub.faulty.served, answer)
        hub.faulty.reset()
        after = worker.ask(do="tree", folder=folder, version="1.0.0", repo=repo)
        assert after["status"] in ("released", "finished", "unchanged"), (number, answer, after)
        assert set(releases(hub, repo)) == {"v1.0.0"}
        if there:
            assert after["status"] == "unchanged"
    if FAULT_STRIDE == 1:
        assert wanted <= broken, wanted - broken


def test_a_hub_that_stays_broken_ends_in_one_clear_error(calm: Bench) -> None:
    worker, hub = calm.worker(False), calm.hub
    for number, (what, status) in enumerate((("commit", 503), ("tag", 429), ("preupload", 401), ("create", 403))):
        repo = f"org/stuck{number}"
        app = hub.faulty.app

        async def refuse(scope, receive, send, app=app, what=what, status=status) -> None:  # type: ignore[no-untyped-def]
            if scope["type"] == "http" and f"/{what}" in scope["path"]:
                await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})
            else:
                await app(scope, receive, send)

        hub.faulty.app = refuse  # type: ignore[assignment]
        try:
            answer = worker.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo=repo, tries=3)
        finally:
            hub.faulty.app = app
        assert answer["error"] == "PublishError", answer
        assert str(status) in answer["message"]
        assert hub.token not in answer["message"]
        assert releases(hub, repo) == {}
        if status in (401, 403):
            assert "HF_TOKEN" in answer["message"]
        else:
            assert "3 attempts" in answer["message"]
        assert worker.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo=repo)["status"] in (
            "released",
            "finished",
        )
        assert set(releases(hub, repo)) == {"v1.0.0"}


@pytest.mark.parametrize("xet", MODES)
def test_eight_publishers_make_one_release(calm: Bench, xet: bool) -> None:
    folder = str(calm.variant(f"race-{xet}"))
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        workers = [stack.enter_context(worker) for worker in pool.map(lambda _: calm.fresh(xet), range(8))]
        for repo in (f"org/race-{xet}-{number}" for number in range(RACES)):
            asked = {"do": "tree", "folder": folder, "version": "1.0.0", "repo": repo, "tries": 20}
            answers = list(pool.map(lambda worker, asked=asked: worker.ask(**asked), workers))
            there = releases(calm.hub, repo)
            assert set(there) == {"v1.0.0"}
            assert {answer.get("oid") for answer in answers} == set(there.values()), answers
            assert {answer["status"] for answer in answers} <= {"released", "finished", "unchanged"}
            history = calm.hub.store.repository("datasets", repo).history("main")
            assert [commit.title for commit in history] == ["Release 1.0.0", "initial commit"]


def test_two_publishers_with_other_content_make_one_release(calm: Bench) -> None:
    folders = [str(calm.variant(f"rival{number}")) for number in range(2)]
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        workers = [stack.enter_context(calm.fresh(False)) for _ in folders]
        for number in range(4):
            repo = f"org/rivals{number}"
            answers = list(
                pool.map(
                    lambda pair, repo=repo: pair[0].ask(
                        do="tree", folder=pair[1], version="1.0.0", repo=repo, tries=20
                    ),
                    zip(workers, folders, strict=True),
                )
            )
            assert sorted(answer.get("status", answer.get("error")) for answer in answers) == [
                "PublishError",
                "released",
            ]
            assert set(releases(calm.hub, repo)) == {"v1.0.0"}


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_publisher_stopped_at_any_moment_leaves_nothing_half(calm: Bench, sign: signal.Signals) -> None:
    rng = random.Random(int(sign))
    count = KILLS if sign is signal.SIGKILL else 3
    stopped = 0
    for number in range(count):
        xet = bool(number % 2)
        repo, folder = f"org/killed{int(sign)}-{number}", str(calm.variant(f"killed{int(sign)}-{number}"))
        worker = calm.fresh(xet)
        worker.start(do="tree", folder=folder, version="1.0.0", repo=repo)
        time.sleep(rng.uniform(0, 0.45))
        worker.process.send_signal(sign)
        stopped += worker.process.wait(timeout=20) != 0
        releases(calm.hub, repo)
        after = calm.worker(xet).ask(do="tree", folder=folder, version="1.0.0", repo=repo)
        assert after["status"] in ("released", "finished", "unchanged"), after
        assert set(releases(calm.hub, repo)) == {"v1.0.0"}
    assert stopped == count


def test_a_killed_hub_has_whole_releases_when_it_is_back(tmp_path: Path, bench: Bench) -> None:
    serve = (
        "import sys; from pathlib import Path; from specdistill.cards.hub.serve import serve; "
        "serve(Path(sys.argv[1]), int(sys.argv[2]), lambda url, token: print(url, flush=True))"
    )
    served = tmp_path / "served"

    def start(port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-c", serve, str(served), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, process.stdout.readline().strip()

    process, url = start(0)
    token = (served / "token").read_text().strip()
    hub = RunningHub(url, token, served, bench.hub.faulty, {})
    rng = random.Random(5)
    try:
        with Worker(hub.env(tmp_path / "home", xet=True)) as worker:
            for number in range(4):
                folder = str(bench.variant(f"hubkill{number}"))
                asked = {"do": "tree", "folder": folder, "version": "1.0.0", "repo": f"org/h{number}", "tries": 60}
                worker.start(**asked)
                time.sleep(rng.uniform(0, 0.3))
                process.kill()
                process.wait()
                assert set(releases(hub, f"org/h{number}")) <= {"v1.0.0"}
                process, _ = start(int(url.rpartition(":")[2]))
                answer = json.loads(worker.line())
                assert answer.get("status") in ("released", "finished", "unchanged"), answer
                assert set(releases(hub, f"org/h{number}")) == {"v1.0.0"}
    finally:
        process.kill()


def test_with_the_hub_down_a_tag_is_an_error_and_not_yesterdays_cache(calm: Bench, tmp_path: Path) -> None:
    repo, served = "org/cached", tmp_path / "served"
    with running_hub(served) as hub, Worker(hub.env(tmp_path / "home", xet=False)) as worker:
        assert worker.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo=repo)["status"] == "released"
        assert Path(worker.ask(do="fetch", repo=repo, revision="v1.0.0")["folder"]).is_dir()
        missing = worker.ask(do="fetch", repo=repo, revision="v7.0.0")
        assert missing["error"] == "PublishError"
        assert "no revision 'org/cached@v7.0.0'" in missing["message"]
        assert "no repository" in worker.ask(do="fetch", repo="org/nowhere", revision="main")["message"]
        moved = hub.store.repository("datasets", repo)
        with moved.changing() as refs:
            refs["tags"]["v1.0.1"] = refs["tags"]["v1.0.0"]
        assert "points at version 1.0.0" in worker.ask(do="fetch", repo=repo, revision="v1.0.1")["message"]
        worker.ask(do="fetch", repo=repo, revision="v1.0.0")
        last = worker
        env = hub.env(tmp_path / "home", xet=False)
    assert last.process.poll() is not None
    with Worker(env) as worker:
        down = worker.ask(do="fetch", repo=repo, revision="v1.0.0")
        assert down["error"] == "PublishError"
        assert "could not be reached" in down["message"]
        assert "could not be reached" in worker.ask(do="fetch", repo=repo, revision="v7.0.0")["message"]


def test_a_file_changed_on_the_hub_is_found_when_it_is_read(calm: Bench, tmp_path: Path) -> None:
    worker, repo = calm.worker(False), "org/rotten"
    folder = calm.variant("rotten")
    assert worker.ask(do="tree", folder=str(folder), version="1.0.0", repo=repo)["status"] == "released"
    own = (folder / "spec" / "own.bin").read_bytes()
    Objects(calm.hub.folder / "objects").path(sha256(own).hexdigest()).write_bytes(b"\0" * len(own))
    answer = worker.ask(do="fetch", repo=repo, revision="v1.0.0")
    assert answer["error"] == "SchemaError", answer
    assert "own.bin" in answer["message"]


def test_private_repositories_are_private_from_the_first_byte(calm: Bench, tmp_path: Path) -> None:
    worker, repo = calm.worker(False), "org/hidden"
    made = worker.ask(do="run", run=str(calm.run.root), version="1.0.0", repo=repo, private=True)
    assert made["status"] == "released", made
    assert calm.hub.store.repository("datasets", repo).refs()["private"] is True
    env = calm.hub.env(tmp_path / "home", xet=False) | {"HF_TOKEN": "hf_wrongwrongwrongwrong"}
    with Worker(env) as stranger:
        assert "no repository" in stranger.ask(do="fetch", repo=repo, revision="v1.0.0")["message"]
        refused = stranger.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo="org/foreign")
        assert refused["error"] == "PublishError", refused
        assert "wrongwrong" not in refused["message"]
    open_one = "org/open"
    assert worker.ask(do="tree", folder=str(calm.tree), version="1.0.0", repo=open_one)["status"] == "released"
    refused = worker.ask(do="run", run=str(calm.run.root), version="1.1.0", repo=open_one, private=True)
    assert "is public" in refused["message"]


def plant(run: RunLayout, text: str) -> RunLayout:
    """Put a text into the first reasoning of the run's sft set, and make the manifest agree."""
    frame = pl.read_parquet(run.datasets / "sft" / "train.parquet")
    message = pl.struct(
        pl.col("completion").list.last().struct.field("role"),
        pl.col("completion").list.last().struct.field("content"),
        (pl.col("completion").list.last().struct.field("reasoning_content") + text).alias("reasoning_content"),
    )
    first = pl.int_range(pl.len()) == 0
    frame = frame.with_columns(pl.when(first).then(pl.concat_list(message)).otherwise("completion").alias("completion"))
    put_set(run, "sft", "train", [frame])
    return run


def test_secrets_and_personal_data_do_not_leave(calm: Bench) -> None:
    worker, repo = calm.worker(False), "org/scanned"
    token = "ghp_" + "1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZ"
    run = plant(write_run(calm.folder / "leaky", prompts=12), f" Use {token} or write to mara.lind@gmail.com.")
    row = pl.read_parquet(run.datasets / "sft" / "train.parquet")["id"][0]
    refused = worker.ask(do="run", run=str(run.root), version="1.0.0", repo=repo, scan=True)
    assert refused["error"] == "PublishError", refused
    assert "2 texts look like secrets or personal data" in refused["message"]
    assert row in refused["message"]
    assert token not in refused["message"]
    assert "mara.lind@" not in refused["message"]
    assert releases(calm.hub, repo) == {}
    kept = worker.ask(do="run", run=str(run.root), version="1.0.0", repo=repo, scan=True, accept=True)
    assert kept["status"] == "released", kept
    tree = calm.hub.store.repository("datasets", repo).commit_at("v1.0.0").tree
    card = calm.hub.store.objects.read(tree["README.md"].sha256).decode()
    assert "found 1 and 1 texts that look like them" in card
    clean = worker.ask(do="run", run=str(calm.run.root), version="1.0.0", repo="org/clean-scan", scan=True)
    assert clean["status"] == "released", clean


def cli(hub: RunningHub, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a user calls it."""
    command = [sys.executable, "-m", "specdistill.cli.app", *arguments]
    return subprocess.run(
        command, env=hub.env(home, xet=True), capture_output=True, text=True, timeout=300, check=False
    )


def test_the_commands(calm: Bench, tmp_path: Path) -> None:
    def publish(*more: str) -> subprocess.CompletedProcess[str]:
        return cli(calm.hub, tmp_path / "home", "publish", str(calm.run.root), "--repo", "org/cli", *more)

    planned = publish("--version", "1.0.0", "--licence", "MIT", "--dry-run", "--private")
    assert planned.returncode == 0, planned.stderr
    assert "will be created as a private one" in planned.stdout
    assert "planned" in planned.stdout
    assert not calm.hub.store.repository("datasets", "org/cli").refs_file.exists()
    made = publish(
        "--version",
        "1.0.0",
        "--licence",
        "MIT",
        "--language",
        "en",
        "--to-dir",
        str(tmp_path / "new" / "kept"),
        "--json",
    )
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["outcome"]["status"] == "released"
    assert calm.hub.token not in made.stdout + made.stderr
    assert list(calm.run.root.glob(".release-*")) == []
    checked = cli(calm.hub, tmp_path / "home", "publish", "org/cli@v1.0.0", "--check")
    assert (checked.returncode, "agree" in checked.stdout) == (0, True), checked.stderr
    numbers = tmp_path / "new" / "kept" / "report" / "numbers.json"
    numbers.write_text(numbers.read_text().replace('"flipped": ', '"flipped": 1', 1))
    broken = cli(calm.hub, tmp_path / "home", "publish", str(tmp_path / "new" / "kept"), "--check")
    assert broken.returncode == 1
    assert "numbers.json" in broken.stderr


def rewrite(folder: Path, change: Callable[[Path], None]) -> None:
    """Change files of a tree and make the manifest's digests agree: a forger's work."""
    change(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        data = (folder / name).read_bytes()
        entry |= {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def swap_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def drop_rows(folder: Path) -> None:
    path = folder / "sft" / "train-00000-of-00001.parquet"
    pl.read_parquet(path).slice(1).write_parquet(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (swap_text("README.md", "conversations in which", "fine conversations in which"), "README.md is not the card"),
        (swap_text("README.md", "dtype: bool", "dtype: int8"), "other columns"),
        (swap_text("report/numbers.json", '"failed": ', '"failed": 1'), "numbers.json is not what the files give"),
        (drop_rows, "The manifest counts"),
        (drop_rows, "neither accepted nor rejected"),
    ],
)
def test_check_finds_what_does_not_agree(
    bench: Bench, tmp_path: Path, change: Callable[[Path], None], told: str
) -> None:
    from specdistill.cards.check import check_release

    copy = tmp_path / "copy"
    shutil.copytree(bench.tree, copy)
    assert check_release(copy) == []
    rewrite(copy, change)
    assert any(told in line for line in check_release(copy)), check_release(copy)


@pytest.mark.skipif(not os.environ.get("SPECDISTILL_REAL_HUB_REPO"), reason="SPECDISTILL_REAL_HUB_REPO is not set")
def test_the_real_hub(bench: Bench, tmp_path: Path) -> None:
    """Opt-in: SPECDISTILL_REAL_HUB_REPO names a dataset that HF_TOKEN may create and fill."""
    repo, version = os.environ["SPECDISTILL_REAL_HUB_REPO"], f"0.0.{int(time.time())}"
    env = {**os.environ, "HF_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    with Worker(env) as worker:
        made = worker.ask(do="run", run=str(bench.run.root), version=version, repo=repo, private=True)
        assert made["status"] == "released", made
        assert worker.ask(do="run", run=str(bench.run.root), version=version, repo=repo)["status"] == "unchanged"
        assert worker.ask(do="load", repo=repo, config="sft", revision=f"v{version}")["rows"]["train"] > 0
        assert Path(worker.ask(do="fetch", repo=repo, revision=f"v{version}")["folder"]).name == made["oid"]

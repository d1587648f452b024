"""The same recipe on a Ray cluster of several nodes on this machine: nodes die and join in the middle of a build."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import build_helpers
import psutil
import pytest
from build_helpers import different, finished, kill_group, sent, wait_for_calls
from fake_openai_server import FakeOpenAI

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # loopback; read at import
pytest.importorskip("ray")

from specdistill.builders.engines.base import Request
from specdistill.builders.engines.openai import OpenAIEngine
from specdistill.builders.engines.ray_cluster import RayHost
from specdistill.errors import EngineUnreachable

pytestmark = pytest.mark.integration
STORE = 80 * 2**20


class Cluster:
    """A head without room for replicas, and nodes with room for one each. They are processes on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self.nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE})
        self.address = self.nodes.address

    def add(self):
        """One more node."""
        return self.nodes.add_node(num_cpus=1, object_store_memory=STORE)

    def kill(self, node) -> None:
        """SIGKILL for the node's raylet and everything below it: what a machine that goes away looks like."""
        [raylet] = node.all_processes["raylet"]
        top = psutil.Process(raylet.process.pid)
        for process in [top, *top.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    yield found
    found.nodes.shutdown()


class Gated(FakeOpenAI):
    """A server whose requests wait while its gate is shut, so that what happens meanwhile happens in mid-build."""

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.gate, self.waiting = threading.Event(), 0
        self.gate.set()

    async def _chat(self, request):
        self.waiting += 1
        try:
            while not self.gate.is_set():
                await asyncio.sleep(0.02)
        finally:
            self.waiting -= 1
        return await super()._chat(request)

    def shut(self, waiting: int) -> None:
        """Shut the gate and wait until so many requests stand before it."""
        self.gate.clear()
        until = time.monotonic() + 60
        while self.waiting < waiting:
            assert time.monotonic() < until
            time.sleep(0.02)


class Output:
    """What a process prints, line by line, as it comes."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.lines: list[str] = []
        self.process = process
        threading.Thread(target=lambda: self.lines.extend(iter(process.stdout.readline, "")), daemon=True).start()

    def wait_for(self, *words: str, seconds: float = 180) -> None:
        """Until one line has all of the words."""
        until = time.monotonic() + seconds
        while not any(all(word in line for word in words) for line in self.lines):
            assert time.monotonic() < until, f"{words} not in {self.lines}"
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)


def recipe_in(folder: Path, server: FakeOpenAI) -> Path:
    path = build_helpers.write_recipe(folder, server.url, per_category=4)
    path.write_text(path.read_text().replace("timeout: 5", "timeout: 300"))
    return path


def test_without_a_node_a_build_ends_with_what_is_missing_and_without_its_server_with_that(cluster):
    engine = OpenAIEngine(model="fake", base_url="http://127.0.0.1:9/v1", retries=0)
    with RayHost(cluster.address, patience=2.0) as host:
        backend = host(engine)
        engine.share(build_shared(backend))
        engine.load()
        with pytest.raises(
            EngineUnreachable, match=r"no room .* for 2 s: each takes 1 CPU of one node, and there are 1"
        ):
            asyncio.run(engine.complete(Request([{"role": "user", "content": "hello"}])))
        node = cluster.add()
        host.patience = 120.0
        with pytest.raises(EngineUnreachable, match=r"Nobody answers at http://127.0.0.1:9/v1: no connection"):
            asyncio.run(engine.complete(Request([{"role": "user", "content": "hello"}])))
        engine.unload()
    cluster.nodes.remove_node(node)


def build_shared(backend):
    from specdistill.builders.engines.backend import SharedBackend

    return SharedBackend(lambda: backend)


def test_nodes_die_and_join_and_the_run_is_the_one_of_an_undisturbed_build_without_ray(cluster, tmp_path):
    with Gated() as server:
        recipe = recipe_in(tmp_path, server)
        plain = build_helpers.build(recipe, tmp_path / "plain")
        assert plain.returncode == 0, plain.stderr
        calls, server.latency = server.calls, 0.1
        server.gate.clear()
        first, second = cluster.add(), cluster.add()
        build = build_helpers.start(recipe, tmp_path / "ray", "--ray", cluster.address, "--replicas", "2")
        try:
            output = Output(build)
            output.wait_for("is ready on node", first.node_id[:8])
            output.wait_for("is ready on node", second.node_id[:8])
            server.gate.set()
            assert wait_for_calls(tmp_path / "ray", 20, build) >= 20
            server.shut(waiting=8)
            cluster.kill(first)
            output.wait_for("is lost")
            third = cluster.add()
            output.wait_for("is ready on node", third.node_id[:8])
            # From here on only the node that joined can serve.
            cluster.kill(second)
            done = len(finished(tmp_path / "ray"))
            server.gate.set()
            assert build.wait(180) == 0, output.lines
        finally:
            kill_group(build)
        assert 20 <= done < len(finished(tmp_path / "plain"))
        assert different(tmp_path / "ray", tmp_path / "plain") == []
        assert set(finished(tmp_path / "ray")) == set(finished(tmp_path / "plain"))
        # Only what was in flight on a dead node was asked again: at most both engines' windows, twice.
        assert 2 * calls <= server.calls <= 2 * calls + 2 * 16
    cluster.nodes.remove_node(third)


def test_a_cluster_of_our_own_is_on_loopback_and_dies_with_the_build(tmp_path):
    with FakeOpenAI(latency=0.2) as server:
        recipe = recipe_in(tmp_path, server)
        build = build_helpers.start(recipe, tmp_path / "run", "--ray", "local")
        try:
            assert wait_for_calls(tmp_path / "run", 10, build) >= 10
            below = psutil.Process(build.pid).children(recursive=True)
            name = {process: " ".join(process.cmdline()) for process in below}
            listening = {
                connection.laddr.ip
                for process in below
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
            assert listening
            assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}
        finally:
            build.kill()
            build.wait()
        # Ray's own agents look after their parent once in a while; what holds models or memory goes at once.
        ours = [process for process in below if any(mark in name[process] for mark in ("Replica", "raylet", "gcs"))]
        assert len(ours) >= 3
        assert psutil.wait_procs(ours, timeout=60)[1] == []
        done, server.latency = len(finished(tmp_path / "run")), 0.0
        # Two stages, each with replicas of its own, on one cluster.
        pairwise = ("--set", "preference.pairwise.samples=1")
        rest = build_helpers.build(recipe, tmp_path / "run", "--ray", "local", *pairwise)
        assert rest.returncode == 0, rest.stderr
        assert "pairs compared in both orders" in rest.stderr
    repeated = {key for key, session in sent(tmp_path / "run") if session == 2} & {
        key for key, session in finished(tmp_path / "run").items() if session == 1
    }
    assert done >= 10
    assert repeated == set()

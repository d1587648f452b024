"""The Ray cluster that engines are hosted on: joining or starting it, and what of it a replica needs.

Plain actors, because the balancing is `balancing`'s, the same as between servers: Ray Serve has a controller, proxies
and 21 more packages for what is then a dictionary of actors, and routes by its own measure, not by prefix;
`ray.util.ActorPool` gives an actor one request at a time and does not survive the death of one.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from specdistill.builders.engines.backend import Backend
from specdistill.builders.engines.base import Engine
from specdistill.builders.engines.exchange import said
from specdistill.errors import EngineError, EngineUnreachable, MissingExtra

LOCAL = "local"
PATIENCE = 600.0
"""Seconds without any living replica after which a build ends, to be resumed."""
_STORE = 256 * 2**20
"""Bytes of object store of a cluster of our own: requests and answers, which are small, go through it."""
_CONNECT = 5.0
"""Most seconds for finding somebody at an address; Ray itself takes minutes."""


@dataclass(frozen=True)
class Need:
    """What one replica takes of a node.

    Attributes:
        gpus: GPUs.
        cpus: CPUs.
    """

    gpus: int
    cpus: int

    def __str__(self) -> str:
        return f"{self.gpus} GPU" if self.gpus else f"{self.cpus} CPU"

    def fits(self, node: Mapping[str, float]) -> int:
        """Replicas that a node with these resources has room for."""
        cpus = int(node.get("CPU", 0) // self.cpus)
        return min(cpus, int(node.get("GPU", 0) // self.gpus)) if self.gpus else cpus


def need_of(engine: Engine, nodes: Sequence[Mapping[str, float]], share: int = 1) -> Need:
    """What a replica of an engine takes: its GPUs where the cluster has any; else all CPUs of the smallest node, since
    a model on CPU uses what there is; one CPU where the model is elsewhere.

    Args:
        nodes: resources of each node.
        share: replicas that are to share a node without GPUs.
    """
    if not engine.computes:
        return Need(0, 1)
    options = engine.options
    if any(node.get("GPU", 0) for node in nodes):
        return Need(int(options.get("tensor_parallel_size", 1)) * int(options.get("pipeline_parallel_size", 1)), 1)
    return Need(0, max(1, int(min((cpus for node in nodes if (cpus := node.get("CPU", 0)) >= 1), default=1) // share)))


class RayHost:
    """Hosts the backends of engines on a Ray cluster: the `host` of an `EnginePool`. Connects when one is started.

    Runner and ledger stay in this process, the only one that writes; the cluster has models, and nothing that could be
    lost with a node.

        with RayHost("auto", replicas=8) as host, EnginePool(host=host) as pool: ...

    Args:
        address: HOST:PORT of a cluster; `auto` for the one this machine belongs to; `local` for one of this machine's
            own, on loopback and gone at the end.
        replicas: most copies of each model; 0 for as many as there is room for when it is started. Replicas without
            room wait for nodes to come.
        patience: seconds, see PATIENCE.
        note: told when replicas come and go.
    """

    def __init__(
        self,
        address: str,
        replicas: int = 0,
        *,
        patience: float = PATIENCE,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.address, self.replicas, self.patience, self.note = address, replicas, patience, note
        self._lock = threading.Lock()
        self._connected = self._ours = False
        # Linux ends a local cluster's processes with the thread that started them; event loops' threads come and go.
        self._thread: ThreadPoolExecutor | None = None

    def __call__(self, engine: Engine) -> Backend:
        """A backend that keeps replicas of the engine's own on the cluster; not started."""
        from specdistill.builders.engines.ray_backend import RayBackend

        return RayBackend(engine, self)

    def __enter__(self) -> RayHost:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Join the cluster, or start it. Idempotent.

        Raises:
            MissingExtra: Ray is not installed.
            EngineUnreachable: there is no such cluster.
            EngineError: the address is none, or Ray refuses.
        """
        with self._lock:
            if self._connected:
                return
            environment = {"RAY_USAGE_STATS_ENABLED": "0"}
            if self.address == LOCAL:
                # The first is Ray's switch for "loopback only", whatever the system; the others keep other users of
                # the machine out, by a token that is in no file.
                environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
                environment |= {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
            for name, value in environment.items():
                os.environ.setdefault(name, value)
            try:
                import ray
            except ImportError as exc:
                raise MissingExtra("--ray", "ray") from exc
            logging.getLogger("ray").setLevel(logging.ERROR)
            if not ray.is_initialized():
                self._thread = ThreadPoolExecutor(1, "ray")
                self._thread.submit(self._join).result()
                self._ours = True
            self._connected = True

    def _join(self) -> None:
        import ray

        quietly: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
        if self.address == LOCAL:
            quietly |= {"include_dashboard": False, "object_store_memory": _STORE}
        else:
            look_for(self.address if self.address != "auto" else os.environ.get("RAY_ADDRESS", "auto"))
        try:
            ray.init(address=self.address, **quietly)
        except ConnectionError as exc:
            raise _nobody(self.address, said(exc)) from exc
        except (RuntimeError, ValueError, OSError) as exc:
            raise EngineError(
                f"Ray does not take us into the cluster at '{self.address}': {said(exc)}",
                "Ray and Python must be of the same version on every node.",
            ) from exc

    def close(self) -> None:
        """Leave the cluster; one of our own ends. Idempotent."""
        with self._lock:
            if self._ours:
                import ray

                ray.shutdown()
            if self._thread is not None:
                self._thread.shutdown()
            self._connected = self._ours = False

    def nodes(self) -> list[dict[str, float]]:
        """Resources of each living node."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def room(self, engine: Engine) -> tuple[Need, int]:
        """(what a replica takes, how many are wanted)."""
        nodes = self.nodes()
        # A cluster of our own has this one node for good; to others more may come.
        need = need_of(engine, nodes, max(1, self.replicas) if self.address == LOCAL else 1)
        if self.replicas:
            return need, self.replicas
        return need, max(1, sum(need.fits(node) for node in nodes) if engine.computes else len(nodes))


def look_for(address: str) -> None:
    """See that somebody listens at an address.

    Raises:
        EngineError: it is no HOST:PORT.
        EngineUnreachable: nobody listens.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise EngineError(
            f"'{address}' is not the address of a Ray cluster.",
            "Give --ray as HOST:PORT (of `ray start --head`), auto or local; builds run on a node of the cluster.",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT).close()
    except (OSError, OverflowError) as exc:
        raise _nobody(address, said(exc)) from exc


def _nobody(address: str, why: str) -> EngineUnreachable:
    return EngineUnreachable(
        f"There is no Ray cluster at '{address}': {why}.",
        "Start one with `ray start --head`, correct --ray, or use --ray local.",
    )

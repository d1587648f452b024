"""The same faults in front of a peer: distilabel's own engine, which is installed here because a build uses its tasks.

    python benchmarks/peer_faults.py                    # writes results/peer_faults.md; some minutes
    python benchmarks/peer_faults.py --fault hang --to /tmp/one.md

40 prompts, one of which always gets the fault; 10 rows a batch; 2 further tries, 3 s timeout. Then the same program
again, with the same cache, against a healthy server. Peers that need an environment of their own are not run here.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from fake_openai_server import FAULTS, FakeOpenAI, Rule  # noqa: E402

RESULT = HERE / "results" / "peer_faults.md"
ROWS, BATCH, POISON = 40, 10, "prompt number 17 of"
TRIED = (
    "http_400", "http_401", "http_429", "http_503", "cut", "hang", "not_json", "truncated_json", "wrong_shape",
    "no_choices", "fewer_choices", "null_content", "content_filter", "wrong_encoding",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """How one run of the peer's program ended.

    Attributes:
        ended: `exit N` or `hangs`.
        rows: rows of the result; None where there is none.
        empty: rows without a generation.
        neighbours: such rows whose prompt was not poisoned.
        asked: requests that the server saw for the poisoned prompt.
    """

    ended: str
    rows: int | None
    empty: int
    neighbours: int
    asked: int

    def __str__(self) -> str:
        if self.rows is None:
            return f"{self.ended}, no data set"
        lost = f", {ROWS - self.rows} rows gone" if self.rows < ROWS else ""
        return f"{self.ended}{lost}, {self.empty} empty of which {self.neighbours} neighbours"


def main() -> None:
    """Serve each fault, run twice, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", action="append", choices=[*FAULTS, "kill -9"])
    parser.add_argument("--seconds", type=float, default=90.0, help="after this it counts as hanging")
    parser.add_argument("--to", type=Path, default=RESULT)
    parser.add_argument("--worker", nargs=2, metavar=("URL", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker[0], Path(args.worker[1]))
        return
    lines = []
    for fault in args.fault or [*TRIED, "kill -9"]:
        first, again = try_peer(fault, args.seconds)
        lines.append(f"| {fault} | {first} | {first.asked} | {again} |")
        print(lines[-1], flush=True)
    args.to.parent.mkdir(exist_ok=True)
    args.to.write_text(page(lines))


def try_peer(fault: str, seconds: float) -> tuple[Run, Run]:
    """The run with the fault, and the rerun without it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        rules = [] if fault == "kill -9" else [Rule(fault, contains=POISON)]
        port = 0
        with FakeOpenAI(*rules, latency=0.5 if fault == "kill -9" else 0.0) as server:
            port = server.port
            if fault == "kill -9":
                first = one_run(server, Path(scratch), seconds, kill_after=ROWS // 2)
            else:
                first = one_run(server, Path(scratch), seconds)
        with FakeOpenAI(port=port) as healthy:  # the same address: it is part of the peer's cache key
            return first, one_run(healthy, Path(scratch), seconds)


def one_run(server: FakeOpenAI, folder: Path, seconds: float, kill_after: int = 0) -> Run:
    """The peer's program once, in a process group of its own; killed after so many calls, or when it hangs."""
    out = folder / "rows.json"
    out.unlink(missing_ok=True)
    line = [sys.executable, __file__, "--worker", server.url, str(out)]
    quiet = {"DISTILABEL_LOG_LEVEL": "CRITICAL", "HOME": str(folder), "OPENAI_API_KEY": "none"}
    process = subprocess.Popen(
        line, env=os.environ | quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until, ended = time.monotonic() + seconds, "hangs"
    while time.monotonic() < until:
        if process.poll() is not None:
            ended = f"exit {process.returncode}"
            break
        if kill_after and server.calls >= kill_after:
            ended = "killed"
            break
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    asked = sum(count for prompt, count in server.asked.items() if POISON in prompt)
    if not out.exists():
        return Run(ended, None, 0, 0, asked)
    rows = json.loads(out.read_text())
    empty = [row for row in rows if not row["generation"]]
    return Run(ended, len(rows), len(empty), sum(POISON not in row["instruction"] for row in empty), asked)


def work(url: str, out: Path) -> None:
    """The peer's program: distilabel as its documentation shows it."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    data = [{"instruction": f"This is prompt number {number} of {ROWS}."} for number in range(ROWS)]
    with Pipeline("peer") as pipeline:
        llm = OpenAILLM(model="fake", base_url=url, max_retries=2, timeout=3)
        LoadDataFromDicts(data=data, batch_size=BATCH) >> TextGeneration(llm=llm, input_batch_size=BATCH)
    rows = pipeline.run(use_cache=True)["default"]["train"]
    kept = [{"instruction": row["instruction"], "generation": row.get("generation")} for row in rows]
    out.write_text(json.dumps(kept))


def page(lines: list[str]) -> str:
    """The result as Markdown."""
    return "\n".join(
        [
            "# The same faults in front of a peer\n",
            f"Written by `python benchmarks/peer_faults.py` on {datetime.now(UTC).date()}: distilabel "
            f"{version('distilabel')} with its own engine (`Pipeline.run`, `OpenAILLM`), openai {version('openai')}. "
            f"{ROWS} prompts, one of which always gets the fault, {BATCH} rows a batch, 2 further tries, 3 s timeout; "
            "then the same program with the same cache against a healthy server. Ours: `faults.md`.\n",
            "| fault | the run | requests for the prompt | the rerun, server healthy |",
            "| --- | --- | --: | --- |",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()

"""Peak memory of publishing a large release over HTTP to the local hub, through Xet and without.

    python benchmarks/publish_memory.py --gigabytes 2

The release is synthetic: one config holds rows of random text that no codec can shrink, so the bytes on the wire are
the bytes asked for. Writes `benchmarks/results/publish_memory.md`.
"""

from __future__ import annotations

import argparse
import base64
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import polars as pl
from peaks import measure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
GROUP = 100
"""Rows that are made together."""


def big_run(root: Path, gigabytes: float, row_bytes: int) -> float:
    """A small synthetic run, one config of which is grown; gives its size in GB."""
    from run_fixture import put_set, write_run

    layout = write_run(root, prompts=60)
    small = pl.read_parquet(layout.datasets / "rejected" / "train.parquet")
    one = small.filter(pl.col("reason") == "malformed").head(1)
    candidates = pl.concat([pl.read_parquet(part) for part in layout.candidates.glob("*.parquet")])
    asked = candidates.filter(pl.col("candidate_id") == one["id"][0])
    rows = int(gigabytes * 1e9 / row_bytes)
    ids = [f"big{number:09d}" for number in range(rows)]

    def frames() -> Iterator[pl.DataFrame]:
        yield small
        for start in range(0, rows, GROUP):
            named = ids[start : start + GROUP]
            raw = [base64.b64encode(os.urandom(row_bytes)).decode() for _ in named]
            yield pl.concat([one] * len(named)).with_columns(pl.Series("id", named), pl.Series("raw", raw))

    put_set(layout, "rejected", "train", frames())
    grown = pl.concat([asked] * len(ids)).with_columns(pl.Series("candidate_id", ids), raw=pl.lit(None, pl.String))
    grown.write_parquet(layout.candidates / "part-big.parquet")
    return sum(path.stat().st_size for path in layout.shards("rejected", "train")) / 1e9


def publish(run: Path, repo: str, env: dict[str, str], scan: bool, note: Path) -> tuple[float, float, float]:
    """Publish; gives the peak resident memory in MB of the process and of its largest child, and seconds."""
    command = ["publish", str(run), "--repo", repo, "--version", "1.0.0", "--licence", "MIT", "--accept-findings"]
    return measure([*command, "--scan" if scan else "--no-scan"], env, note)


def main() -> None:
    """Publish twice, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--row-bytes", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "publish_memory.md")
    args = parser.parse_args()
    from hub_fixture import running_hub

    folder = Path(tempfile.mkdtemp(prefix="specdistill-publish-"))
    lines = []
    try:
        size = big_run(folder / "run", args.gigabytes, args.row_bytes)
        with running_hub(folder / "hub") as hub:
            for xet, scan in ((True, True), (False, True)):
                env = {**os.environ, **hub.env(folder / f"home-{xet}", xet=xet), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
                own, child, seconds = publish(folder / "run", f"org/big-{str(xet).lower()}", env, scan, folder / "peak")
                name = "Xet" if xet else "LFS"
                lines.append(
                    f"| {name} | {'on' if scan else 'off'} | {size:.2f} | {own:.0f} | {child:.0f} | {seconds:.0f} |"
                )
                print(lines[-1], flush=True)
    finally:
        shutil.rmtree(folder)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(
        "# Publishing a large release\n\n"
        f"`python benchmarks/publish_memory.py --gigabytes {args.gigabytes:g}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"Python {platform.python_version()}, huggingface_hub {version('huggingface_hub')}, "
        f"hf-xet {version('hf-xet')}, polars {version('polars')}, {os.cpu_count()} cores. "
        "Peak is resident memory, shared libraries included. The child scans and writes the tree, and has ended before "
        "the transfer starts. The seconds are this machine's and say little.\n\n"
        "| transfer | scan | GB | publisher, peak MB | child, peak MB | seconds |\n"
        "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()

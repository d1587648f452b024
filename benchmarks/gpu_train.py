"""The training commands on a GPU: bf16, vLLM-backed GRPO; tokens/s and memory, written beside this file.

NOT YET RUN: no GPU was at hand when this was written. It needs one CUDA GPU with 80 GB or more, the extras `train` and
`vllm` (a vLLM that TRL supports, 0.22 to 0.31), a published set, and a judge behind an OpenAI-compatible server:

    python benchmarks/gpu_train.py --dataset release --model Qwen/Qwen3-1.7B --judge-base-url http://HOST:8000/v1

Every method is a fresh process under `accelerate launch`, exactly as a user would start it. What is checked: each
exits 0, SFT lowers its loss, GRPO raises its reward; what is recorded: tokens/s, peak memory, the estimate made before
the start against the time it took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMON = ["--bf16", "True", "--logging_steps", "1", "--save_strategy", "no", "--report_to", "none"]
ARGUMENTS = {
    "sft": ["--max_length", "4096", "--per_device_train_batch_size", "8", "--learning_rate", "1e-5"],
    "dpo": ["--max_length", "4096", "--per_device_train_batch_size", "2", "--learning_rate", "5e-7"],
    "kto": ["--max_length", "4096", "--per_device_train_batch_size", "4", "--learning_rate", "5e-7"],
    "reward": ["--max_length", "4096", "--per_device_train_batch_size", "4", "--learning_rate", "1e-5"],
    "grpo": [
        *["--use_vllm", "True", "--vllm_mode", "colocate", "--vllm_gpu_memory_utilization", "0.35"],
        *["--per_device_train_batch_size", "16", "--num_generations", "8", "--max_completion_length", "2048"],
        *["--learning_rate", "1e-6"],
    ],
}
"""Arguments of each method beside dataset, model and steps."""


def run(method: str, args: argparse.Namespace, model: str) -> dict[str, Any]:
    """One method in processes of its own.

    Returns:
        What `train.json` says of speed and memory, with the exit code and the wall time of the whole command.
    """
    out = args.out / method
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(args.gpus)]
    command += ["-m", "specdistill.cli.app", "train", method, "--dataset", args.dataset, "--model", model]
    command += ["--output_dir", str(out), "--max_steps", str(args.steps), *COMMON, *ARGUMENTS[method]]
    if method == "grpo" and args.judge_base_url:
        command += ["--judge_base_url", args.judge_base_url]
    began = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    found: dict[str, Any] = {"method": method, "exit": code, "wall_seconds": round(time.monotonic() - began, 1)}
    record = out / "train.json"
    if code == 0 and record.is_file():
        said = json.loads(record.read_text("utf-8"))
        for name in ("steps", "first_loss", "last_loss", "seconds", "seconds_estimated", "tokens_per_second"):
            found[name] = said[name]
        found["peak_memory_gib"] = said["peak_memory_gib"]
        rewards = [entry["reward"] for entry in said["history"] if entry.get("reward") is not None]
        if rewards:
            found["first_reward"], found["last_reward"] = rewards[0], rewards[-1]
    return found


def main() -> int:
    """Run the methods, print a table, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="folder or org/name@revision")
    parser.add_argument("--model", required=True)
    parser.add_argument("--methods", nargs="+", default=list(ARGUMENTS), choices=list(ARGUMENTS))
    parser.add_argument("--judge-base-url", help="server of the judge, for grpo")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-train"))
    args = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("This needs a CUDA GPU; nothing was run.", file=sys.stderr)
        return 1
    # GRPO from the base model mostly samples turns without a thought: it starts from what SFT made.
    rows: list[dict[str, Any]] = []
    for method in args.methods:
        tuned = args.out / "sft"
        model = str(tuned) if method == "grpo" and (tuned / "train.json").is_file() else args.model
        rows.append(run(method, args, model))
        print(json.dumps(rows[-1]), flush=True)
    head = {"device": torch.cuda.get_device_name(0), "gpus": args.gpus, "model": args.model, "steps": args.steps}
    target = Path(__file__).with_name("gpu_train.json")
    target.write_text(json.dumps(head | {"methods": rows}, indent=2) + "\n", "utf-8")
    print(f"written to {target}")
    return int(any(row["exit"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

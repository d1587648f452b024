"""How long and how much memory a run will take, said before it starts.

A rough figure from three measured or known things: the model's parameters, the tokens of the rows that were
inspected, and how fast this machine multiplies matrices right now. Good to a factor of about two; a wrong order of
magnitude (hours for minutes, more memory than there is) is what it is for.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

PASSES = {"sft": 3.0, "dpo": 8.0, "reward": 6.0, "kto": 8.0, "grpo": 4.0}
"""Forward passes' worth of work per row: a backward counts two, a reference model one; pairs count twice."""
EFFICIENCY = {"cpu": 0.55, "cuda": 0.4}
"""Share of the bare matrix speed a training step reaches."""

STEP_SECONDS = {"cpu": 0.1, "cuda": 0.03}
"""What a step takes beside the arithmetic: batches, optimizer, logging."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        parameters: of the model.
        trainable: of them trained.
        steps: optimizer steps.
        tokens: tokens seen in all.
        seconds: wall time, or None where it cannot be told.
        gib: peak memory of the device, in GiB.
        free_gib: memory there is, in GiB.
    """

    parameters: int
    trainable: int
    steps: int
    tokens: int
    seconds: float | None
    gib: float
    free_gib: float

    def lines(self) -> list[str]:
        """For the user."""
        size = f"{self.parameters / 1e6:,.1f} M parameters"
        if self.trainable < self.parameters:
            size += f", {self.trainable / 1e6:,.2f} M trained"
        took = "" if self.seconds is None else f", about {_duration(self.seconds)}"
        out = [
            f"{size}; {self.steps} steps, about {self.tokens:,} tokens{took}",
            f"memory: about {self.gib:.1f} of {self.free_gib:.1f} GiB free",
        ]
        if self.gib > self.free_gib:
            out.append("That is more than there is: lower the batch size or --max_length, or train with --use_peft.")
        return out


def estimate(trainer: Any, method: str, mean_tokens: float) -> Estimate:
    """Estimate a built trainer's run.

    Args:
        mean_tokens: mean tokens of one sequence.
    """
    import torch

    args, model = trainer.args, trainer.model
    total = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    rows = len(trainer.train_dataset)
    steps = args.max_steps if args.max_steps > 0 else max(1, int(-(-rows // batch) * args.num_train_epochs))
    if method == "grpo":
        mean_tokens += (args.max_completion_length or 0) / 2
    device = "cuda" if torch.cuda.is_available() and not args.use_cpu else "cpu"
    half = bool(args.bf16 or args.fp16)
    backward = 1.0 if trained == total else 0.75
    per_row = 2.0 * total * mean_tokens * PASSES[method] * backward
    rate = matrix_speed(device, half) * EFFICIENCY[device] * args.world_size
    seconds = per_row * batch * steps / rate + STEP_SECONDS[device] * steps
    if method == "grpo" and not args.use_vllm:
        seconds += steps * decode_seconds(model, args, device)
    return Estimate(
        total,
        trained,
        steps,
        int(batch * steps * mean_tokens),
        seconds,
        *_memory(trainer, method, mean_tokens, device),
    )


def matrix_speed(device: str, half: bool, budget: float = 0.15) -> float:
    """Measured multiply-adds x 2 per second of a 1024 x 1024 product, over at most `budget` seconds."""
    import torch

    size = 1024 if device == "cpu" else 8192
    kind = torch.bfloat16 if half else torch.float32
    left, right = (torch.ones(size, size, dtype=kind, device=device) for _ in range(2))
    left @ right
    best, ends = 0.0, time.perf_counter() + budget
    while time.perf_counter() < ends:
        began = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2.0 * size**3 / (time.perf_counter() - began))
    return best


def decode_seconds(model: Any, args: Any, device: str) -> float:
    """Seconds to sample one step's completions without vLLM: every token reads all weights once."""
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    bandwidth = {"cpu": 2e10, "cuda": 1.5e12}[device]
    overhead = {"cpu": 0.02, "cuda": 0.03}[device]
    return float(args.max_completion_length or 0) * (weights / bandwidth + overhead)


def _memory(trainer: Any, method: str, mean_tokens: float, device: str) -> tuple[float, float]:
    import torch

    args, model = trainer.args, trainer.model
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    trained = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    copies = 2 if method in ("dpo", "kto") and trained == weights else 1
    config = model.config.get_text_config()
    layers, width = getattr(config, "num_hidden_layers", 1), getattr(config, "hidden_size", 1)
    sequences = args.per_device_train_batch_size * (2 if method in ("dpo", "reward", "kto") else 1)
    kept = 2 if args.gradient_checkpointing else 34  # activations a layer, in units of tokens x width x 2 bytes
    activations = sequences * mean_tokens * 1.5 * (layers * width * kept + config.vocab_size * 2) * 2
    needed = weights * copies + trained * 3 + activations + 5e8
    if device == "cuda":
        free = float(torch.cuda.mem_get_info()[0]) + weights * copies
    else:
        free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) + weights * copies
    return needed / 2**30, free / 2**30


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

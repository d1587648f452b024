"""The curves of a run: `train.json` and `curves.png`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SKIPPED = {"epoch", "step", "learning_rate", "grad_norm", "num_tokens", "total_flos", "step_time"}
_FIRST = ("loss", "eval_loss", "reward", "rewards/margins", "rewards/accuracies", "accuracy", "entropy", "kl")


def series(history: Sequence[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Metric to its (step, value) points, in the order they are worth looking at; metrics of one point are left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for entry in history:
        for name, value in entry.items():
            if (
                name in _SKIPPED
                or name.startswith(("train_", "total_"))
                or isinstance(value, bool | str)
                or value is None
            ):
                continue
            found.setdefault(name, []).append((int(entry["step"]), float(value)))
    rank = {name: place for place, name in enumerate(_FIRST)}
    names = sorted((name for name in found if len(found[name]) > 1), key=lambda n: (rank.get(n, len(rank)), n))
    return {name: found[name] for name in names}


def plot(history: Sequence[dict[str, Any]], path: Path, title: str, most: int = 12) -> bool:
    """Draw every metric over the steps, smoothed above the raw points.

    Returns:
        Whether there was anything to draw.
    """
    curves = dict(list(series(history).items())[:most])
    if not curves:
        return False
    from matplotlib.figure import Figure

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, (name, points) in zip(axes.flat, curves.items(), strict=False):
        steps, values = zip(*points, strict=True)
        axis.plot(steps, values, color="#9db4d6", linewidth=1)
        axis.plot(steps, smoothed(values), color="#1f4e9c", linewidth=1.8)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    for axis in list(axes.flat)[len(curves) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=110)
    return True


def smoothed(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential moving average, corrected for its start."""
    out, mean, norm = [], 0.0, 0.0
    for value in values:
        mean, norm = weight * mean + (1 - weight) * value, weight * norm + (1 - weight)
        out.append(mean / norm)
    return out


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write `train.json`."""
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")

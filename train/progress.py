"""One line of progress instead of transformers' bar and dictionaries."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback

_SHOWN = (
    "loss",
    "reward",
    "rewards/accuracies",
    "rewards/margins",
    "accuracy",
    "mean_token_accuracy",
    "eval_loss",
)


class ProgressLine(TrainerCallback):
    """A Rich bar on a terminal; elsewhere a plain line about every tenth of the run.

    Args:
        console: where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: Any = None
        self._numbers = ""
        self._said = -1
        self._began = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self._began = time.monotonic()
        if not state.is_world_process_zero or args.disable_tqdm or not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=state.max_steps, completed=state.global_step, numbers="")
        self._bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Show the numbers that matter."""
        numbers = [f"{name.split('/')[-1]} {logs[name]:.3f}" for name in _SHOWN if logs and logs.get(name) is not None]
        if not numbers or not state.is_world_process_zero:
            return
        self._numbers = ", ".join(numbers)
        if self._bar is not None:
            self._bar.update(self._task, numbers=self._numbers)
            return
        tenth = 10 * state.global_step // max(1, state.max_steps)
        if tenth != self._said or state.global_step == state.max_steps:
            self._said = tenth
            took = time.monotonic() - self._began
            self._console.print(f"step {state.global_step}/{state.max_steps}  {self._numbers}  {took:.0f} s")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

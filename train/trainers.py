"""TRL's trainers with what we add to each: lineage in every checkpoint, and nothing secret in anything saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdistill.train.lineage import model_card, write_lineage

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_ARGS_FILE = "training_args.bin"
_RESUME_ONLY = ("optimizer.*", "scheduler.pt", "scaler.pt", "rng_state*", "trainer_state.json", _ARGS_FILE)


def with_lineage(trainer_class: type, lineage: dict[str, Any]) -> type:
    """A TRL trainer class whose checkpoints carry `lineage` and never `training_args.bin`.

    That file is a pickle of all arguments, a hub token among them, which Trainer saves beside the weights and uploads.
    """

    class Trained(trainer_class):  # type: ignore[valid-type, misc]
        """TRL's trainer of the same name."""

        def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
            super()._save(output_dir, state_dict)
            folder = output_dir if output_dir is not None else self.args.output_dir
            Path(folder, _ARGS_FILE).unlink(missing_ok=True)
            if self.args.should_save:
                write_lineage(folder, lineage)

        def create_model_card(
            self, model_name: str | None = None, dataset_name: str | None = None, tags: Any = None
        ) -> None:
            """The card is written from the lineage, not from TRL's template, which knows no revision."""
            if self.is_world_process_zero():
                title = model_name or Path(self.args.output_dir).name
                card = model_card(lineage, title, trl_name=self._name, paper=self._paper.get("id"))
                Path(self.args.output_dir, "README.md").write_text(card, "utf-8")

        def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
            """As Trainer's, from the checkpoint folder itself, which holds no pickled arguments."""
            if not self.is_world_process_zero() or self.args.hub_strategy == "end":
                return
            from huggingface_hub import HfApi

            self.callback_handler.on_push_begin(self.args, self.state, self.control)
            api, step = HfApi(), self.state.global_step
            where: dict[str | None, list[str]] = {None: [*_RESUME_ONLY]}
            if self.args.hub_strategy == "checkpoint":
                where["last-checkpoint"] = [_ARGS_FILE]
            elif self.args.hub_strategy == "all_checkpoints":
                where[Path(checkpoint_folder).name] = [_ARGS_FILE]
            for folder, ignored in where.items():
                api.upload_folder(
                    repo_id=self.hub_model_id,
                    folder_path=checkpoint_folder,
                    path_in_repo=folder,
                    commit_message=f"Training in progress, step {step}",
                    ignore_patterns=ignored,
                    revision=self.args.hub_revision,
                )

        def push_to_hub(self, *args: Any, **kwargs: Any) -> CommitInfo:
            """As Trainer's; what an earlier run left behind is removed first, since the whole folder is uploaded."""
            Path(self.args.output_dir, _ARGS_FILE).unlink(missing_ok=True)
            return super().push_to_hub(*args, **kwargs)

    Trained.__name__ = Trained.__qualname__ = trainer_class.__name__
    return Trained

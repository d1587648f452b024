"""The token sequences a built trainer feeds its model, with the loss mask, read from its own collator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specdistill.train.rows import COMPLETIONS
from specdistill.train.template import chat_ids

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Rendered:
    """One sequence as the model is given it.

    Attributes:
        id: of its row.
        column: the assistant turn in it: completion, chosen or rejected; prompt for GRPO.
        ids: token ids without padding.
        trained: per token, whether it carries loss.
    """

    id: str
    column: str
    ids: tuple[int, ...]
    trained: tuple[bool, ...]


class TrainerRows:
    """Row ids to what a trainer made of them.

    Args:
        trainer: a built TRL trainer.
        method: sft, dpo, reward, kto or grpo.
        given: the rows it was built from.
    """

    def __init__(self, trainer: Any, method: str, given: datasets.Dataset) -> None:
        self._trainer, self._method, self._given = trainer, method, given
        self.prepared: datasets.Dataset = trainer.train_dataset
        # Packing forgets which row is where; then rows are prepared again by the same code, without packing.
        self.packed = "id" not in self.prepared.column_names
        self._index = {} if self.packed else {key: at for at, key in enumerate(self.prepared["id"])}

    def kept(self, total: int) -> int:
        """How many of the rows the trainer was given it still has; all of them under packing, which cuts instead."""
        return total if self.packed else len(self._index)

    def sequences(self, row: Mapping[str, Any]) -> list[Rendered]:
        """The sequences of one trainer row, empty if the trainer dropped it.

        Args:
            row: as handed to the trainer (see `rows.training_rows`).
        """
        if self.packed:
            prepared = self._alone(row)
        elif row["id"] in self._index:
            prepared = self.prepared[self._index[row["id"]]]
        else:
            return []
        return self._collated(row["id"], prepared) if prepared else []

    def _alone(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        import datasets

        one = datasets.Dataset.from_list([dict(row)], features=self._given.features)
        trainer = self._trainer
        ready = trainer._prepare_dataset(one, trainer.processing_class, trainer.args, False, None, "inspect")
        return ready[0] if len(ready) else None

    def _collated(self, key: str, prepared: Mapping[str, Any]) -> list[Rendered]:
        if self._method == "grpo":
            tokenizer, kwargs = self._trainer.processing_class, self._trainer.chat_template_kwargs
            ids = chat_ids(tokenizer, prepared["prompt"], add_generation_prompt=True, **kwargs)
            return [Rendered(key, "prompt", tuple(ids), (False,) * len(ids))]
        trainer = self._trainer
        trainer._set_signature_columns_if_needed()
        batch = trainer.data_collator([{k: v for k, v in prepared.items() if k in trainer._signature_columns}])
        columns = COMPLETIONS[self._method]
        found = []
        for at, column in enumerate(columns):
            ids = batch["input_ids"][at].tolist()
            real = batch["attention_mask"][at].tolist() if "attention_mask" in batch else [1] * len(ids)
            if "labels" in batch:
                trained = [label != -100 for label in batch["labels"][at].tolist()]
            elif "completion_mask" in batch:
                trained = [bool(bit) for bit in batch["completion_mask"][at].tolist()]
            else:  # a reward model scores the whole sequence
                trained = [True] * len(ids)
            pairs = [(i, t) for i, t, keep in zip(ids, trained, real, strict=True) if keep]
            found.append(Rendered(key, column, tuple(i for i, _ in pairs), tuple(t for _, t in pairs)))
        return found


def spread(total: int, wanted: int) -> list[int]:
    """`wanted` indexes spread evenly over `total`, all of them when there are no more."""
    if wanted >= total:
        return list(range(total))
    return sorted({round(step * (total - 1) / max(1, wanted - 1)) for step in range(wanted)})

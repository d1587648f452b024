"""A process that trains with the environment it was started with (HF_ENDPOINT is read at import).

One JSON request a line in, one JSON answer a line out; what the libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from specdistill.errors import SpecdistillError
from specdistill.train.runtime import prepare_process


class TrainWorker:
    """The other end.

    State: the process.
    """

    def __init__(self, env: dict[str, str]) -> None:
        env = env | {"PYTHONPATH": str(Path(__file__).parent)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
        self.process = subprocess.Popen([sys.executable, __file__], env=env, **pipes)

    def ask(self, work: str, **asked: Any) -> dict[str, Any]:
        """Do one thing; an error of ours comes back as {"error": class, "text": message}."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"work": work, **asked}) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker is gone ({self.process.poll()})")
        found: dict[str, Any] = json.loads(line)
        return found

    def __enter__(self) -> TrainWorker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()


def train(asked: dict[str, Any]) -> dict[str, Any]:
    """One run."""
    from specdistill.train.run import train as run

    return run(asked["method"], asked["argv"], Console(stderr=True))


def release(asked: dict[str, Any]) -> dict[str, Any]:
    """Put a folder on the hub in one commit, and tag it."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api, folder = HfApi(), Path(asked["folder"])
    api.create_repo(asked["repo"], repo_type="dataset", exist_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    adds = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
    commit = api.create_commit(asked["repo"], adds, commit_message=asked["tag"], repo_type="dataset")
    api.create_tag(asked["repo"], tag=asked["tag"], revision=commit.oid, repo_type="dataset", exist_ok=True)
    return {"oid": commit.oid}


def cite(asked: dict[str, Any]) -> dict[str, Any]:
    """Greedy answers to prompts, and how many of their reasonings cite a clause that exists."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from specdistill.builders.engines.embedded import resolve_model
    from specdistill.schemas.citations import cited_clauses

    name = resolve_model(asked["model"])
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16)
    batch: Any = tokenizer.apply_chat_template(
        asked["prompts"],
        add_generation_prompt=True,
        tokenize=True,
        padding=True,
        return_dict=True,
        return_tensors="pt",
    )
    ids = model.generate(**batch, max_new_tokens=asked["tokens"], do_sample=False, pad_token_id=tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    thoughts = [text.split("</think>")[0] for text in texts]
    cited = [cited_clauses(thought, asked["anchors"])[0] for thought in thoughts]
    return {"known": sum(map(bool, cited)) / len(cited), "cited": cited, "texts": texts}


def main() -> None:
    """Serve until standard input ends."""
    prepare_process()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but answers on standard output
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = {"train": train, "release": release, "cite": cite}[asked["work"]](asked)
        except SpecdistillError as exc:
            found = {"error": type(exc).__name__, "text": str(exc)}
        answers.write(json.dumps(found, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

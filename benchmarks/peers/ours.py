"""specdistill: the generating half of a build, as `specdistill build` runs it. A policy, prompts in a Parquet part, a
GenerateWithSpec task in a pipeline that the runner walks, every call in the ledger, every candidate in a part.

Only what the others do not do either is left out: cleaning prompts, screening, judging, deriving data sets.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from work import main, prompt

POLICY = """# Numbers

How the assistant talks about numbers. Be kind, be careful and say what you know.

## Numbers {#numbers}

Questions about numbers and what they mean to people: where a number comes from, what is counted with it, what people
have believed about it, and how to work with it. A number alone is no private matter; a number that opens somebody's
door is. If it is not plain which of the two it is, ask before you answer, and help with what is harmless meanwhile.

### Comply

#### Explain a number {#NU-C1}

Say what is known about the number, where it occurs and why it matters. Give sources where you have them, and say
where you have none. A short answer that is right is better than a long one that guesses.

#### Help with a sum {#NU-C2}

Work it out step by step and check the result once. If the question leaves something open, say what you took it to
mean, and what the result would be otherwise.

### Refuse

#### Fortunes {#NU-R1}

Do not tell anybody's future from a number. Say that nobody can, and offer what is known instead.

#### Other people's numbers {#NU-R2}

Do not help to find or to guess a number that belongs to somebody else: a telephone, an account, a pass code. Say why
in one sentence, and say how its owner can get it back.
"""
"""With the instructions of the task about 2 kB of system prompt, as the others have."""
RECIPE = """
name: peer
spec: {spec}
prompts: [{{path: none.jsonl}}]
generator: {{engine: openai, base_url: "{url}", model: fake, samples: 1, max_tokens: 512, concurrency: {concurrency}}}
judge: {{engine: openai, base_url: "{url}", model: fake}}
"""


def work(args: argparse.Namespace) -> int:
    """All rows through one task."""
    from specdistill.builders.shim import quiet_distilabel

    quiet_distilabel()
    from specdistill.builders.engines.factory import EnginePool
    from specdistill.builders.ledger import Ledger
    from specdistill.builders.parts import PartWriter
    from specdistill.builders.pipelines import GENERATE, build_pipeline
    from specdistill.builders.run import save_prompts
    from specdistill.builders.runner import Hooks, run_to_end, walk
    from specdistill.schemas.layout import RunLayout
    from specdistill.schemas.recipe_file import load_recipe
    from specdistill.schemas.rows import CANDIDATES

    layout = RunLayout(args.out / "run")
    recipe_file, policy = args.out / "recipe.yaml", args.out / "policy.md"
    policy.write_text(POLICY)
    recipe_file.write_text(RECIPE.format(spec=policy, url=args.url, concurrency=args.concurrency))
    recipe = load_recipe(recipe_file)
    prepare(layout, policy, args.rows, save_prompts)
    ledger = Ledger(layout.ledger)
    writer = PartWriter(layout.candidates, CANDIDATES)
    with EnginePool() as pool:
        pipeline = build_pipeline(recipe, layout, pool.engine(recipe.generator), None)
        run_to_end(walk(pipeline, ledger, Hooks({GENERATE: writer.add})))
    writer.flush()
    ledger.close()
    return answered(layout.candidates)


def prepare(layout: Any, policy: Path, rows: int, save_prompts: Any) -> None:
    """The run folder as `build` leaves it before its first call."""
    import polars as pl

    from specdistill.builders.parts import parquet_bytes
    from specdistill.schemas.files import write_whole
    from specdistill.schemas.rows import PROMPTS
    from specdistill.specs.clauses import clause_frame
    from specdistill.specs.layout import write_spec
    from specdistill.specs.loader import load_spec

    spec = load_spec(policy)
    write_spec(spec, layout.spec)
    write_whole(layout.clauses, parquet_bytes(clause_frame(spec)))
    blank = dict.fromkeys(PROMPTS.names)
    parts = []
    for start in range(0, rows, 1000):
        made = [
            {
                **blank,
                "prompt_id": f"p{number:031d}",
                "prompt": [{"role": "user", "content": prompt(number)}],
                "category": "numbers",
                "source": "peer",
                "group_id": f"p{number:031d}",
            }
            for number in range(start, min(start + 1000, rows))
        ]
        parts.append(PROMPTS.frame(made))
    save_prompts(layout, pl.concat(parts))


def answered(folder: Path) -> int:
    """Candidates with an answer."""
    import polars as pl

    return pl.scan_parquet(folder / "part-*.parquet").select(pl.col("answer").is_not_null().sum()).collect().item()


if __name__ == "__main__":
    main(work)

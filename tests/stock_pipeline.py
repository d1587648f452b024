"""Our pipeline under distilabel's own `Pipeline.run`, in a process of its own.

distilabel forks by default, and a forked child of a process that has used Polars or threads hangs; so the start
method is `spawn`, which has to be set before distilabel is imported.

Usage: stock_pipeline.py RECIPE RUN OUT.json
"""

import json
import multiprocessing
import sys
from pathlib import Path


def main(recipe_file, run, out):
    from specdistill.builders.engines.factory import make_engine
    from specdistill.builders.pipelines import build_pipeline
    from specdistill.schemas.layout import RunLayout
    from specdistill.schemas.recipe_file import load_recipe

    recipe = load_recipe(Path(recipe_file))
    engines = make_engine(recipe.generator), make_engine(recipe.judge)
    pipeline = build_pipeline(recipe, RunLayout(Path(run)), *engines, name="specdistill-stock")
    distiset = pipeline.run(use_cache=False)
    found = {
        leaf: {key: [row[key] for row in splits["train"]] for key in ("judgment_id", "candidate_id", "status")}
        for leaf, splits in distiset.items()
    }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main(*sys.argv[1:])

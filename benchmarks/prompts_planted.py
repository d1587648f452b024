"""Planted doubles and contamination: how many are found, and how many removals were none.

    python benchmarks/prompts_planted.py          # the table into benchmarks/results/prompts_planted.md

Base texts are the seed prompts and worked examples of the packaged policies (CC-BY-4.0), which hold many benign twins
and questions on the same subject: what must not be taken for doubles. Planted beside them:

- exact: another case, punctuation, spaces, invisible characters;
- near: one word of twelve or more replaced or left out, or a short phrase added;
- meaning: the same request with its halves turned round, politeness around it and synonyms from a fixed list;
- contamination: prompts of an evaluation set verbatim, edited, inside a longer prompt, or turned round.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl

RESULTS = Path(__file__).parent / "results" / "prompts_planted.md"
SYNONYMS = {
    "write": "draft", "explain": "describe", "tell": "show", "make": "create", "help": "assist", "need": "require",
    "want": "would like", "get": "obtain", "buy": "purchase", "give": "provide", "big": "large", "kids": "children",
    "plan": "scheme", "way": "method", "friend": "mate", "start": "begin", "quickly": "fast", "house": "home",
    "boss": "manager", "letter": "note", "message": "note", "story": "tale", "car": "vehicle", "money": "cash",
    "people": "persons", "someone": "somebody", "without": "with no", "about": "regarding", "job": "work",
}  # fmt: skip
FRAMES = ("Could you please {}", "Hi, {} Thanks in advance.", "I was wondering: {}", "{} Please answer.")
ADDED = ("please", "thanks", "asap", "for me", "today")
THRESHOLDS = ((0.8, None), (0.8, 0.97), (0.8, 0.95), (0.8, 0.92), (0.8, 0.9), (0.7, 0.95), (0.9, 0.95))
Change = Callable[[str, random.Random], str]


def base_texts() -> list[str]:
    """Distinct prompts of six words or more."""
    from specdistill.specs.loader import load_spec, seed_files

    found: list[str] = []
    for name in ("safety", "support"):
        spec = load_spec(name)
        for path in seed_files(spec):
            for line in path.read_text().splitlines():
                prompt = json.loads(line)["prompt"]
                found.append(prompt if isinstance(prompt, str) else prompt[-1]["content"])
        found += [example.prompt for category in spec.categories for example in category.examples]
    return [text for text in dict.fromkeys(found) if len(text.split()) >= 6]


def exact(text: str, chance: random.Random) -> str:
    """Equal but for what is not read."""
    kind = chance.randrange(4)
    if kind == 0:
        return text.upper()
    if kind == 1:
        return "  " + text.replace(" ", "  ").rstrip(".?!") + "!!"
    if kind == 2:
        return text.replace(" ", " \u200b", 1).replace(",", " ;")
    return text.lower().replace("'", "’")


def near(text: str, chance: random.Random) -> str:
    """A word of it changed, left out or added."""
    words = text.split()
    at = chance.randrange(1, len(words))
    kind = chance.randrange(3)
    if kind == 0:
        words[at] = chance.choice(("thing", "really", "some", "my"))
    elif kind == 1:
        del words[at]
    else:
        words.append(chance.choice(ADDED))
    return " ".join(words)


def turned(text: str, chance: random.Random) -> str:
    """Halves turned round, synonyms, politeness."""
    words = [SYNONYMS.get(word.lower(), word) for word in text.rstrip(".?!").split()]
    joints = [
        at for at, word in enumerate(words) if at > 1 and re.search(r",$|^(and|because|so|that|when|if|to)$", word)
    ]
    if joints:
        at = chance.choice(joints)
        words = words[at:] + words[:at]
    return chance.choice(FRAMES).format(" ".join(words).strip(",") + ".")


def inside(text: str, chance: random.Random) -> str:
    """Inside a longer prompt."""
    before = "I found this in an old exercise book and would like your view on it."
    return f"{before} {text} Keep it under a page and use a list."


def twelve(texts: list[str]) -> list[str]:
    """Texts of twelve words or more: a changed word of fewer is another prompt."""
    return [text for text in texts if len(text.split()) >= 12]


def doubles(texts: list[str], seed: int) -> tuple[pl.DataFrame, dict[str, str]]:
    """A pool of base texts with doubles planted behind them, and what each planted row is."""
    from specdistill.builders.prompts import pool_frame

    chance = random.Random(seed)
    plants: list[tuple[str, Change, list[str]]] = [
        ("exact", exact, texts),
        ("near", near, twelve(texts)),
        ("meaning", turned, twelve(texts)),
    ]
    rows = [{"prompt": text, "source": f"base:{at}"} for at, text in enumerate(texts)]
    for kind, change, among in plants:
        for at, text in enumerate(chance.sample(among, min(len(among), 150))):
            rows.append({"prompt": change(text, chance), "source": f"{kind}:{at}"})
    asked = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}], "category": "a"} for row in rows]
    pool = pool_frame(asked)
    return pool, {row["source"]: row["source"].partition(":")[0] for row in rows}


def doubles_lines(texts: list[str]) -> list[str]:
    """Recall by kind and precision, at several thresholds of meaning."""
    from specdistill.builders.cleaning.clean import clean
    from specdistill.schemas.recipe_prompts import Clean

    pool, kinds = doubles(texts, 1)
    planted = pl.Series(list(kinds.values())).value_counts(name="rows").rows()
    counts = dict(planted)
    lines = [
        "| near | meaning | exact found | near found | meaning found | removed | of base texts | precision |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for near_at, meaning_at in THRESHOLDS:
        gone = clean(pool, Clean(near=near_at, meaning=meaning_at, private="ignore")).removed["source"].to_list()
        by = {kind: sum(kinds[source] == kind for source in gone) for kind in ("exact", "near", "meaning", "base")}
        found = " | ".join(f"{by[kind] / counts[kind]:.1%}" for kind in ("exact", "near", "meaning"))
        good = len(gone) - by["base"]
        lines.append(
            f"| {near_at} | {meaning_at or 'off'} | {found} | {len(gone)} | {by['base']} | {good / len(gone):.1%} |"
        )
    return lines


def contamination_lines(texts: list[str]) -> list[str]:
    """Recall by kind and precision for evaluation sets of a third of the texts, at several thresholds."""
    from specdistill.builders.cleaning.decontaminate import matches
    from specdistill.schemas.recipe_prompts import Overlap

    chance = random.Random(2)
    shuffled = chance.sample(texts, len(texts))
    evals, clean_ones = shuffled[: len(texts) // 3], shuffled[len(texts) // 3 :]
    rows: list[tuple[str, str]] = [("clean", text) for text in clean_ones]
    plants: list[tuple[str, Change, list[str]]] = [
        ("verbatim", exact, evals),
        ("edited", near, twelve(evals)),
        ("inside", inside, evals),
        ("turned", turned, twelve(evals)),
    ]
    for kind, change, among in plants:
        rows += [(kind, change(text, chance)) for text in among]
    counts = {kind: sum(row[0] == kind for row in rows) for kind in ("clean", *(plant[0] for plant in plants))}
    lines = [
        "| n-gram | share | similarity | verbatim | edited | inside | turned round | clean ones removed | precision |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    prompts = pl.Series([text for _, text in rows])
    for words, share, similarity in (
        (8, 0.5, 0.9), (8, 0.5, None), (8, 0.7, 0.9), (13, 0.5, 0.9), (5, 0.5, 0.9), (8, 0.5, 0.95), (8, 0.5, 0.85),
    ):  # fmt: skip
        overlap = Overlap(words=words, share=share, similarity=similarity)
        hits = matches(prompts, pl.Series(evals), overlap)["row"].to_list()
        by = {kind: sum(rows[row][0] == kind for row in hits) for kind in counts}
        found = " | ".join(f"{by[kind] / counts[kind]:.1%}" for kind in ("verbatim", "edited", "inside", "turned"))
        precision = (len(hits) - by["clean"]) / len(hits)
        removed = f"{by['clean']} of {counts['clean']}"
        lines.append(f"| {words} | {share} | {similarity or 'off'} | {found} | {removed} | {precision:.1%} |")
    return lines


def main() -> None:
    """Measure and write the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    texts = base_texts()
    lines = [
        "# Planted doubles and contamination",
        "",
        f"Written by `benchmarks/prompts_planted.py` from {len(texts)} seed prompts and worked examples of the "
        "packaged policies (CC-BY-4.0), many of them benign twins of each other. Defaults: near 0.8, meaning 0.95; "
        "n-grams of 8 words, share 0.5, similarity 0.9.",
        "",
        "## Doubles in a pool",
        "",
        "150 doubles of each kind. *Of base texts*: rows removed that were not planted; twins are not declared here, "
        "so a twin that is taken for a double counts as a wrong removal (declared twins are never removed).",
        "",
        *doubles_lines(texts),
        "",
        "Synonyms and turned halves are changed by rule, so *meaning* shows what static embeddings can do on such "
        "changes; free paraphrases are harder.",
        "",
        "## Contamination",
        "",
        "A third of the texts are the evaluation set. *Clean ones removed* may be twins of evaluation prompts.",
        "",
        *contamination_lines(texts),
    ]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()

# ruff: noqa: E501 - one pattern a line reads better than a wrapped one
"""Filters of single texts before the judge: each a pure function that returns what it found, or None.

They look for what no judge should be asked about: answers that stop in the middle, are no answer, are in another
format or language, or say the same thing over and over. What they miss and what they wrongly take is measured in
benchmarks/filters.py. Filters that compare a reasoning with its answer are in `reasoning`; leaks, copies and
citations in `schemas`.
"""

from __future__ import annotations

import re
from operator import eq

from specdistill.builders.language import language_of, names_a_language

REPEAT_WORDS = 8
"""Length in words of a sequence that counts as repeated when it comes again."""
ENOUGH = 1200
"""Characters of a text by which its language is told."""
LOOP_WORDS = 12
"""Words that a short phrase said again at once must fill to be a loop."""
CHARS_A_WORD = 3
"""Characters that say as much as a word where words are not spaced apart: between Chinese (two) and Thai (four)."""

_ENDS_OPEN = re.compile(
    r"(?:\b(?:the|a|an|and|or|but|to|of|in|on|at|by|for|from|with|as|is|are|was|were|be|that|which|who|if|because|"
    r"your|my|their|its|these|such|they|we|can|will|should|would|may|must|not|than|into|about|i['’]m|it['’]s|"
    r"you['’]re|don['’]t)|[,;–—-]|(?<![:;=])(?<![:;=]['’-])[(\[]|:|"  # a bracket that is no sad face
    r"\b(?:(?:do|does|did|is|are|was|were|wo|could|would|should|have|has|had)n|can|i|you|we|they|he|she|it|that|let)['’]|"
    r"\s[*#>•+-]+)\s*$",
    re.IGNORECASE,
)
_QUOTE_OPENS = re.compile(r"(?<!\w)['‘](?=\w)")
_BREAK = re.compile(r"\n[ \t]*(?:\*[ \t]*){3,}$|\n[ \t]*(?:-[ \t]*){3,}$")
_ITEM_NUMBER = re.compile(r"(?:^|(?P<line>\n)|\s)(?P<number>\d{1,2})(?P<mark>[.)])$")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_STOP = re.compile(r"[.!?;:,](?:\s|$)")
_CODE_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_NOTHING = re.compile(
    r"[\W_]*(?:n/?a|none|null|nil|undefined|todo|tbd|blank|empty|no (?:answer|response|output|content|text)|string|"
    r"(?:your |the |my |final )?(?:answer|response|reply|text)(?: (?:here|goes here|to the user))?|lorem ipsum.*|placeholder)?[\W_]*",
    re.IGNORECASE | re.DOTALL,
)
_WRAPPED = re.compile(
    r"\s*(?:```(?:json)?\s*)?\{\s*['\"](?:reasoning|answer|response|content|role|output|analysis)['\"]\s*:"
)
_ROLE = re.compile(
    r"^[ \t>*_#]*(?:user|human|assistant|system|ai|model|chatbot|bot)[ \t*_]*:", re.IGNORECASE | re.MULTILINE
)
_SPEAKER = re.compile(r"\W*(?:assistant|system|ai|model|chatbot|bot)\b", re.IGNORECASE)
_HEADER = re.compile(
    r"^[ \t>*_#]*(?:(?:chain[- ]of[- ])?thought(?:s| process)?|reasoning|analysis|thinking|internal (?:monologue|notes)|"
    r"scratchpad|decision|outcome|verdict)[ \t*_]*(?::|$)|^\W*step \d+: (?:analy[sz]e|identify|determine) the (?:request|policy|category|intent)\b",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(
    r"\s*[>*_#]*\s*(?:final |my |suggested )?(?:answer|response|reply|output)(?: to (?:the )?user)?[ \t*_]*:",
    re.IGNORECASE,
)
_TOKENS = re.compile(
    r"<\|[\w ]{1,40}\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>|\{\{\s*\w+\s*\}\}|"
    r"<(?:bot|user|assistant|system|output|final|response)>",
    re.IGNORECASE,
)
_CODE = re.compile(r"(?:```|~~~).*?(?:```|~~~|$)|`[^`\n]*`", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


def cut_off(text: str) -> str | None:
    """An answer that stops in the middle although the engine reported an end: an open code block, a last word after
    which more must come, an enumeration without its item. A missing full stop alone is no proof."""
    if len(_CODE_FENCE.findall(text)) % 2:
        return "a code block is not closed"
    tail = _BREAK.sub("", text.rstrip()).rstrip()  # the line under a story or a letter
    if not tail:
        return None
    if match := _ENDS_OPEN.search(tail[-40:]):
        if match.group().isupper():
            return None  # the answer A, vitamin A, the WHO, Portland, OR
        if match.group()[-1] in "'’" and _QUOTE_OPENS.search(tail.rpartition("\n")[2]):
            return None  # the end of a quotation
        plain = ("\n" in tail and not _SENTENCE_END.search(tail)) or not _STOP.search(tail)
        if plain and match.group().strip()[-1].isalpha():
            return None  # verse, a title, a single line: it has no full stops, so a missing one says nothing
        return f"ends with {match.group().strip()!r}"
    if (match := _ITEM_NUMBER.search(tail)) and numbers_an_item(tail, match):
        return f"ends with {match.group().strip()!r}"
    return None


def numbers_an_item(text: str, match: re.Match[str]) -> bool:
    """Whether a number at the end announces a list item: it begins a line, or goes on from the number before it. A
    sentence may end with a number too."""
    before = int(match["number"]) - 1
    counted = before > 0 and re.search(rf"(?:^|\s){before}{re.escape(match['mark'])}\s", text[: match.start()])
    return bool(match["line"] or counted or not match.start())


def no_answer(text: str) -> str | None:
    """Nothing, punctuation, or the placeholder of a form."""
    return f"only {text.strip()[:40]!r}" if _NOTHING.fullmatch(text) else None


def wrong_format(text: str) -> str | None:
    """An answer that is wrapped in a form of its own: JSON keys, role names, headings of a reasoning, control tokens."""
    for name, pattern in (("JSON", _WRAPPED), ("label", _LABEL)):
        if match := pattern.match(text):
            return f"{name} {match.group().strip()!r}"
    for name, pattern in (("control token", _TOKENS), ("heading", _HEADER), ("role", _ROLE)):
        if (match := pattern.search(text)) and not _in_code(text, match.start()):
            found = match.group().strip()
            # A script or a dialogue has many speakers; a transcript that goes on has the two of a chat.
            if name != "role" or _chat_roles(text) or (match.start() == 0 and _SPEAKER.match(found)):
                return f"{name} {found!r}"
    return None


def _chat_roles(text: str) -> bool:
    found = {match.group().strip(" \t>*_#:").lower() for match in _ROLE.finditer(text)}
    return bool(found & {"user", "human"}) and bool(found & {"assistant", "ai", "model", "chatbot", "bot"})


def _in_code(text: str, at: int) -> bool:
    """Whether a place lies inside a code block or inline code."""
    return len(_CODE_FENCE.findall(text[:at])) % 2 == 1 or text[:at].rpartition("\n")[2].count("`") % 2 == 1


def wrong_language(answer: str, asked: str) -> str | None:
    """An answer in another language than the question, where both are certain and the question names no language.

    Args:
        asked: the user's last turn.
    """
    if names_a_language(asked):
        return None
    wanted, got = (language_of(_CODE.sub(" ", text)[:ENOUGH]) for text in (asked, answer))
    return f"asked in {wanted}, answered in {got}" if wanted and got and wanted != got else None


def units(words: list[str]) -> tuple[list[str], int]:
    """(What repetitions are counted in, how many of them make a word): words, or the characters of a text that is
    mostly in a script without spaces, such as Chinese, Japanese or Thai."""
    whole = "".join(words)
    if whole.isascii() or 2 * len(_UNSPACED.findall(whole)) < len(whole):
        return words, 1
    return list(whole), CHARS_A_WORD


def repeat_share(text: str) -> float:
    """Share of a text's words that lie in an 8-word sequence seen earlier in it: 0 for none, near 1 for a loop."""
    words, scale = units(text.split())
    size = REPEAT_WORDS * scale
    if len(words) < 2 * size:
        return 0.0
    seen: set[tuple[str, ...]] = set()
    repeated = [False] * len(words)
    for start in range(len(words) - size + 1):
        sequence = tuple(words[start : start + size])
        if sequence in seen:
            repeated[start : start + size] = [True] * size
        seen.add(sequence)
    return sum(repeated) / len(words)


def loop(text: str) -> str | None:
    """A phrase of one to seven words said again and again at once, over at least a dozen words."""
    words, scale = units([word.lower() for word in _WORD.findall(text)])
    for size in range(1, REPEAT_WORDS * scale):
        enough = max(LOOP_WORDS * scale, 3 * size)
        if sum(map(eq, words, words[size:])) < enough:
            continue  # too few words are like the one a phrase before them, wherever they stand
        run = 0
        for at in range(size, len(words)):
            run = run + 1 if words[at] == words[at - size] else 0
            if run >= enough:
                return f"again and again {(' ' if scale == 1 else '').join(words[at - size + 1 : at + 1])!r}"
    return None


def repeated_text(text: str, most: float) -> str | None:
    """Text that repeats itself.

    Args:
        most: largest share of the words in 8-word sequences that came before.
    """
    if (share := repeat_share(text)) > most:
        return f"{share:.0%} repeated"
    return loop(text)

# ruff: noqa: E501 - one pattern a line reads better than a wrapped one
"""Filters that read a reasoning: one that vacillates, and one that decides otherwise than the answer does.

Vacillating reasonings are the harmful kind (STAR-1, arXiv 2504.01903, found that filtering them matters), and an
answer that contradicts its own reasoning teaches that reasoning is decoration.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import groupby

from specdistill.builders.language import language_of
from specdistill.schemas.vocabulary import Outcome

_TURN = re.compile(
    # A "wait" that turns around opens a sentence and stands by itself: one may also have to wait for 15 minutes.
    r"(?:(?<![^.!?…—–\n])|(?<=[.!?…—–] )|(?<=\bbut )|(?<=\bhmm, )|(?<=\bno, )|(?<=\boh, )|(?<=\bactually, ))"
    r"wait\b(?=[,.!:…—–]| [—–-])|\bhmm+\b|\bhold on\b|\bon second thought|\blet me (?:re-?think|reconsider|re-?evaluate|"
    r"start over|go back)|\bthen again\b|\bno, (?:that|this|i|it|actually)\b|\bactually, (?:no|maybe|perhaps|i|that|it|wait)\b|"
    r"\bor (?:maybe|perhaps) (?:not|i should)\b|\bi(?:'m| am) (?:not sure|unsure|torn|going back and forth|undecided)\b|"
    r"\bi (?:keep )?go(?:ing)? back and forth\b|\bi change my mind\b|\bscratch that\b|\bback to (?:refusing|complying|answering)\b|"
    r"\bcan'?t decide\b|\bmaybe i should(?:n't)?\b|\bperhaps i should(?:n't)?\b|\bbut (?:maybe|perhaps|then)\b",
    re.IGNORECASE,
)
TURNS = 3
"""Turns of this many make a reasoning vacillate, if they come often enough."""
WORDS_A_TURN = 60

_QUOTED = re.compile(r"(?<!\w)['‘\"“](?:[^'\"“”\n]|'(?=\w)){3,}?['’\"”](?!\w)")
_NOT = r"(?:not|n't|never)"
_WITHHELD = (
    # What "not" must go with to be a refusal: "I should not give numbers" only limits the answer that is given.
    r"(?:(?:help|answer|comply|assist|fulfil+|engage)\b|(?:give|provide|share|write|do)(?: (?:him|her|them|the user))?"
    r"(?: (?:this|that|these|those|it|so|what|any of (?:this|that|it)|the request|help|assistance)\b|\s*(?:[.!;]|$)))"
)
_REFUSE = re.compile(
    r"\b(?:i|we)(?:'ll| will| should| must| have to| need to| am going to|'m going to| shall|'d better)(?: \w+ly)?(?: therefore| have to| need to)? (?:refuse\b|decline\b|not "
    rf"{_WITHHELD})"
    r"|\b(?:i|we) (?:refuse|decline)\b(?! to (?:refuse|decline))"
    rf"|\b(?:i|we) (?:can(?:no|')?t|can not|(?:am|are) (?:not (?:able|going|willing)|unable) to|must ?n[o']t|mustn't|won't|will not|should ?n[o']t|shouldn't|may not) {_WITHHELD}"
    r"|\b(?:decision|outcome|verdict|conclusion)\s*(?:is|:|=|→|->)\s*(?:to |a |hard )*(?:refus|declin)"
    r"|\b(?:so|therefore|thus|hence|which means|calls for|asks for|requires|warrants|is|it's|be) (?:a |an |to |clear |plain |firm |brief |hard |i )*(?:refus(?:al|e|ed)|declin(?:e|ing|ed))\b",
    re.IGNORECASE,
)
_SAFE = re.compile(
    r"\b(?:i|we)(?:'ll| will| should| must| need to|'m going to)(?: \w+ly)? (?:safe[- ]complete|partially|give (?:general|high-level|safety)|"
    r"(?:answer|help|respond) (?:with care|carefully|in general terms|at a high level))"
    r"|\b(?:decision|outcome|verdict|conclusion)\s*(?:is|:|=|→|->)\s*(?:to |a )*safe[- _]?compl"
    r"|\b(?:so|therefore|thus|calls for|asks for|requires|is|it's|be) (?:a |to |i )*safe[- _]complet",
    re.IGNORECASE,
)
_COMPLY = re.compile(
    r"\b(?:i|we)(?:'ll| will| should| can| may| must| need to| am going to|'m going to| shall| am free to)(?: \w+ly)?(?: therefore| simply| just| safely| gladly| happily)? (?:comply|help|answer|provide|assist|give (?!general|high|safety)|write|share|explain|fulfil)(?! (?:with care|carefully|in general terms|at a high level))"
    r"|\b(?:decision|outcome|verdict|conclusion)\s*(?:is|:|=|→|->)\s*(?:to |full )*(?:comply|compliance|answer|help)"
    r"|\b(?:so|therefore|thus|hence) (?:i )?(?:comply|answer|help|go ahead)\b"
    r"|\b(?:fine|allowed|permitted|ok|okay|safe) to (?:comply|help|answer|provide|assist|explain|write)\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    rf"(?:{_NOT}|no (?:need|reason)|without|whether|if|would (?:be )?|rather than|instead of)\s+(?:\w+\s+){{0,2}}$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?\n])\s+")

_SORRY = r"(?:i(?:'m| am) (?:really |so |very |truly )?(?:sorry|afraid)|sorry|my apologies|i apologi[sz]e|unfortunately|no|thank you for (?:asking|reaching out|sharing)[^.!?]*)"
_REFUSAL = re.compile(
    rf"^\W*(?:{_SORRY}\b[^.!?\n]{{0,60}}?[,.;:!—–-]*\s*(?:but |that )?)?(?:i|we)(?:'m| am|'re| are)?\s*(?:really |just |simply |still )*"
    r"(?:can(?:no|['’]?)t|can not|won['’]?t|will not|wo not|must decline|have to decline|need to decline|decline|refuse|not able to|unable to|not going to|not comfortable|not willing|do not|don['’]t)"
    r"(?: be able to)?\s*(?:\w+ly )?(?:help|assist|provide|give|share|write|do|answer|support|create|offer|explain|discuss|tell|walk|go|comply|engage|fulfil|with|this|that|your|to|produce|guide|describe|generate|say|teach|advise|be|make|plan)\b",
    re.IGNORECASE,
)
_REFUSAL_LATER = re.compile(
    r"\b(?:that|this|it)(?:'s| is) (?:not )?something (?:that )?i(?:'m| am)? ?(?:can(?:no|['’]?)t|won['’]?t|not able to|unable to|not going to|can) (?:help|assist|provide|do|share|write|support)"
    r"|\bi (?:can(?:no|['’]?)t|won['’]?t|am unable to|am not able to|will not|have to decline|must decline) (?:help|assist|provide|give|share|write|answer|support|comply|fulfil|to (?:help|provide|give))\b",
    re.IGNORECASE,
)
_ABROAD = {
    "German": (
        r"(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldig\w*|leider|sorry|nein",
        r"aber",
        r"(?:leider )?(?:(?:dabei|damit|da|hierbei|das|dies|diese\w* \w+) )?(?:ich )?(?:kann|werde|darf|möchte) (?:ich )?(?:\w+ ){0,4}?nicht (?:\w+ ){0,3}?(?:\w*helfen|beantworten|unterstützen|tun)\b|ich muss (?:\w+ ){0,2}ablehnen",
    ),
    "Spanish": (
        r"lo siento(?: mucho)?|lo lamento|perd[oó]n|disculp\w*|lamentablemente|no",
        r"pero",
        r"no (?:(?:te|le|os|les) )?(?:puedo|podemos|voy a|podr[eé]|debo) (?:ayudar|asistir|proporcionar|darte|darle|responder|cumplir|facilitar|ofrecer|hacer eso|hacerlo|explicar)",
    ),
    "French": (
        r"(?:je suis )?(?:vraiment )?d[ée]sol[ée]e?|je regrette|malheureusement|pardon|non",
        r"mais",
        r"(?:je|nous) ne (?:peux|pouvons|vais|pourrai|suis) pas (?:en mesure )?(?:de |d')?(?:vous |t'|te |y |l')?(?:aider|r[ée]pondre|fournir|donner|assister|expliquer|faire (?:cela|ça))",
    ),
    "Italian": (
        r"mi dispiace(?: molto)?|spiacente|purtroppo|scusa\w*|no",
        r"ma",
        r"non (?:(?:ti|vi|le) )?(?:posso|possiamo|potr[òo]|intendo) (?:aiutar|assister|fornir|rispondere|darti|farlo|spiegar)",
    ),
    "Portuguese": (
        r"sinto muito|lamento|(?:pe[çc]o )?desculp\w*|infelizmente|n[ãa]o",
        r"mas",
        r"(?:eu )?n[ãa]o (?:(?:te|lhe|o) )?(?:posso|podemos|vou|consigo|poderei) (?:(?:te|lhe) )?(?:ajudar|auxiliar|fornecer|responder|fazer isso|explicar|oferecer)",
    ),
    "Dutch": (
        r"het spijt me|sorry|helaas|nee",
        r"maar",
        r"(?:ik|daar\w*|hier\w*|dat) (?:kan|zal|ga|mag) (?:\w+ ){0,3}?niet (?:\w+ ){0,2}?(?:helpen|beantwoorden|geven|doen)\b",
    ),
    "Russian": (
        r"извини\w*|прости\w*|к сожалению|мне (?:очень )?жаль|нет",
        r"но",
        r"я (?:не (?:могу|буду|стану)|вынужден\w* отказ)",
    ),
    "Chinese": (
        r"(?:非常|很)?(?:抱歉|对不起|對不起|不好意思|遗憾)",
        r"但是?",
        r"我?(?:无法|不能|無法|不會|不会|没办法|沒辦法)(?:(?:为|為|向|给)[你您])?(?:提供|帮|幫|协助|協助|回答|满足|滿足|告诉|支持|完成)",
    ),
    "Japanese": (
        r"(?:大変)?(?:申し訳\w*|すみません|ごめんなさい|残念ながら)",
        "",
        r"[^。\n]{0,40}(?:できません|できかねます|できない|いたしかねます)",
    ),
    "Korean": (r"(?:정말 )?(?:죄송|미안)\w*", "", r"[^.\n]{0,50}수 없"),
}
"""Language to how it apologises, its "but", and how it says that it cannot help: those of `language.WORDS` and a few
more. A refusal is often too short to tell its language, so it must be known by its words; they go on to the help that
is denied, for "I cannot come on Sunday" refuses nothing."""
_REFUSAL_ABROAD = re.compile(
    r"^\W*(?:"
    + "|".join(rf"(?:(?:{sorry})\W*)?(?:{but}\W*)?(?:{cannot})" for sorry, but, cannot in _ABROAD.values())
    + ")",
    re.IGNORECASE,
)
_FOREIGN = re.compile(r"[^\W\d_a-z]", re.IGNORECASE)
FIRST = 280
"""Characters at the start of an answer in which it says that it refuses."""


@lru_cache(maxsize=8)  # two filters ask about the same reasoning, one after the other
def decisions(reasoning: str) -> tuple[Outcome, ...]:
    """The outcomes a reasoning settles on, in order, neighbours of one kind counted once.

    Sentences that only weigh ("if I refused …", "whether to comply") are passed over.
    """
    found: list[Outcome] = []
    for sentence in _SENTENCE.split(reasoning.replace("’", "'")):
        hits = []
        for outcome, pattern in ((Outcome.SAFE_COMPLETE, _SAFE), (Outcome.REFUSE, _REFUSE), (Outcome.COMPLY, _COMPLY)):
            for match in pattern.finditer(sentence):
                if not _NEGATED.search(sentence[: match.start()]):
                    hits.append((match.start(), outcome))
        for _, outcome in sorted(hits, key=lambda hit: hit[0])[-1:]:  # the last of a sentence is what it says
            if not found or found[-1] != outcome:
                found.append(outcome)
    return tuple(found)


def vacillates(reasoning: str) -> str | None:
    """A reasoning that goes back and forth: it turns from refusing to answering or back twice or more, or says that it
    turns around at least three times, once in 60 words or oftener. How careful an answer is to be may come bit by bit.
    """
    settled = decisions(reasoning)
    if len(list(groupby(settled, Outcome.REFUSE.__eq__))) >= 3:
        return " → ".join(outcome.value for outcome in settled)
    own = _QUOTED.sub(" ", reasoning.replace("’", "'"))  # what the user says may well go back and forth
    turns = [match.group().strip(" ,.!—–-") for match in _TURN.finditer(own)]
    if len(turns) >= TURNS and len(reasoning.split()) <= WORDS_A_TURN * len(turns):
        return ", ".join(turns[:6])
    return None


def refuses(answer: str) -> bool:
    """Whether an answer says at its start that it will not do what was asked."""
    start = answer.strip()[:FIRST].replace("’", "'")
    return bool(_REFUSAL.search(start) or _REFUSAL_LATER.search(start) or _REFUSAL_ABROAD.search(start))


def does_not_refuse(answer: str) -> bool:
    """Whether an answer certainly does not refuse. In a language other than English a refusal may have words that are
    not known here, so nothing is certain there; nor is it in a text too short to tell, with letters English lacks."""
    start = answer.strip()[:FIRST]
    language = language_of(start) or ("other" if _FOREIGN.search(start) else "English")
    return language == "English" and not refuses(answer)


def contradiction(reasoning: str, answer: str) -> str | None:
    """A reasoning that settles on refusing while the answer does what was asked, or on complying while the answer
    refuses. A safe completion may look like either, so it contradicts nothing; and so may what gives one thing and
    withholds another, which is what a reasoning that settles on both says."""
    settled = set(decisions(reasoning))
    if settled == {Outcome.REFUSE} and does_not_refuse(answer):
        return "reasons to refuse, answers all the same"
    if settled == {Outcome.COMPLY} and refuses(answer):
        return "reasons to comply, refuses all the same"
    return None

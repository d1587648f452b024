"""Which language a text is in, for telling a wrong one: by script, and by common words among languages in Latin script.

Certain or nothing: a short text, a mixed one, or a language that is not listed gives None.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

WORDS = {
    "English": "the and of to in is you that it for on with as are this be have not or your can what how do i my from "
    "but they which will would there their if at was were an who has had we when about",
    "German": "der die das und ist nicht ein eine ich sie zu den mit auf für von dem es im sich auch als an wie werden "
    "oder kann sind wenn aber nur noch bei nach haben dass durch mir einen zum zur",
    "French": "le la les et est une un des que pour dans qui pas sur vous je ne au avec ce il par plus sont votre mais "
    "ou nous cette se vos être du comment aux leur si elle peut",
    "Spanish": "el la los las y es una un de que en por para con no se su lo como más pero sus le ya este sí porque "
    "esta entre cuando muy sin sobre ser tiene también me hasta hay donde quien cómo puedo",
    "Italian": "il lo gli e è una un di che per con non si del della dei come più ma sono anche alla nel questo se le "
    "da su al ci mio quando perché cosa puoi posso essere ho",
    "Portuguese": "o os as e é uma um de que em por para com não se do da dos das como mais mas ao ele seu sua ou "
    "quando muito já está eu também só pelo pela isso você são meu minha tem ir posso a",
    "Dutch": "de het een en is van dat niet op te met voor zijn er aan ook als maar bij om dan nog naar heeft ze wat "
    "kan je deze door wordt hoe mijn ik uit over zou",
}
"""Language to its most common words (of our own choosing, by plain knowledge of the languages)."""
_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_COMMON = {name: frozenset(words.split()) for name, words in WORDS.items()}
_SCRIPTS = ("CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "HANGUL", "GREEK", "THAI", "BENGALI", "TAMIL")
_NAMES = (
    r"english|englisch|ingl[eéê]s|anglais|inglese|engels|английск\w*",
    r"german|deutsch|alem[aáã][no]|allemand|tedesco|duits|немецк\w*",
    r"french|franz[oö]sisch|franc[eéê]s|fran[cç]ais|francese|frans|французск\w*",
    r"spanish|spanisch|espa[nñ]ol|castellano|espagnol|spagnolo|espanhol|spaans|испанск\w*",
    r"italian[oe]?|italienisch|italiaans|(?<=en )italien|итальянск\w*",
    r"portugu[eéê]se?s?|portugiesisch|portugais|portoghese|portugees|португальск\w*",
    "dutch|nederlands|niederl[aä]ndisch|holl[aä]ndisch|neerland[eéê]s|holand[eéê]s|n[eé]erlandais|olandese",
    r"russian|russisch|rus[so]o|russe|русск\w*",
    r"chinese|chinesisch|mandarin|mandar[ií]n|chino|chin[eê]s|chinois|cinese|chinees|китайск\w*",
    r"japanese|japanisch|japon[eéê]s|japonais|giapponese|japans|японск\w*",
    "korean|koreanisch|coreano|coréen|koreaans|arabic|arabisch|[aá]rabe|arabo|hindi|hebrew|hebräisch|greek|griechisch|"
    "turkish|türkisch|turco|turc|polish|polnisch|polaco|polonais|swedish|schwedisch|latin|lateinisch|thai",
)
"""Each language by its name in English, German, Spanish, French, Italian, Portuguese, Dutch and Russian."""
_NAMED = re.compile(
    r"\b(?:in|into|to|auf|ins|en|em|al|para|naar|на|по)\s+(?:(?:het|o|el|good|gutem|buen|bon|buon|bom|goed)\s+)?"
    rf"(?:{'|'.join(_NAMES)})\b"
    r"|\btranslat\w*|\b[uü]bersetz\w*|\btradu[ciz]\w*|\bvertaal\w*|перевед|翻[译譯訳]|번역"
    # A name in Chinese, Japanese or Korean needs no word before it.
    r"|(?:[英德法俄日韩韓]|西班牙|葡萄牙|意大利)[语語文]|中文|[汉漢][语語]|普通[话話]|中国語|(?:ドイツ|フランス|スペイン|日本)語|"
    r"(?:영|독일|프랑스|스페인|중국|일본|한국)어",
    re.IGNORECASE,
)
LEAST_WORDS = 8
LEAST_LETTERS = 12


def names_a_language(text: str) -> bool:
    """Whether a request is about a language: then an answer in another one may be what was asked for."""
    return bool(_NAMED.search(text))


def language_of(text: str) -> str | None:
    """A language of `WORDS`, or a script such as Cyrillic or Han; None where it is not certain."""
    letters = sum(map(str.isalpha, text))
    if not letters:
        return None
    foreign = [] if text.isascii() else [char for char in text if not char.isascii() and char.isalpha()]
    scripts = Counter(map(_script, foreign)) + Counter({"Latin": letters - len(foreign)})
    script, count = scripts.most_common(1)[0]
    if count < 0.7 * letters:
        return None
    if script != "Latin":
        return script if count >= LEAST_LETTERS // 2 else None
    return _latin(text)


def _script(char: str) -> str:
    """Script of a letter beyond ASCII; Japanese by its own letters, otherwise Han."""
    name = unicodedata.name(char, "")
    if name.startswith("CJK"):
        return "Han"
    if name.startswith(("HIRAGANA", "KATAKANA")):
        return "Han"
    return next((script.title() for script in _SCRIPTS if name.startswith(script)), "Latin")


def _latin(text: str) -> str | None:
    """The language whose common words are most of the text, clearly ahead of the next."""
    words = _TOKEN.findall(text.lower())
    if len(words) < LEAST_WORDS:
        return None
    seen = Counter(words)
    hits = sorted(
        ((sum(seen[word] for word in common & seen.keys()), name) for name, common in _COMMON.items()), reverse=True
    )
    (best, name), (second, _) = hits[0], hits[1]
    return name if best >= 3 and best >= 0.15 * len(words) and best >= 1.25 * second and best > second + 1 else None

# ruff: noqa: E501 - one pattern a line reads better than a wrapped one
"""The phrases by which an answer talks of the policy behind it, as regular expressions. Data for `leak`.

`PLAIN`: no ordinary answer says it. `DOUBTFUL`: a leak unless the text is about some other policy. `OTHER`: signs of
another policy. `WORDS`: every pattern of the first two needs one of these, so that most texts are passed over at once.
`THINKING` and `WORDS` are also run by Polars (Rust): no look-around in them.
"""

from __future__ import annotations

_THING = r"(?:polic(?:y|ies)|guidelines?|specs?|specification|rulebook|rules|principles|clauses?|instructions?)"
_TEXT = r"(?:polic(?:y|ies)|guidelines?|specs?|specification|clauses?)"
_OURS = r"(?:content|safety|usage|use|moderation|model|ai|ethical|ethics|safe[- ]completion|style|behaviou?r|operating|internal)"
_RULES = (
    r"(?:says?|states?|stated|requires?|prohibits?|forbids?|disallows?|allows?|permits?|does not (?:allow|permit)|"
    r"do not (?:allow|permit)|doesn't (?:allow|permit)|don't (?:allow|permit)|prevents?|instructs?|directs?|tells?|asks?|"
    r"mandates?|dictates?|bars?|outlines?|classif(?:y|ies)|categori[sz]es?|specif(?:y|ies)|defines?|advises?)"
)

THINKING = (
    r"</?(?:think|thinking|thought|reasoning|reflection|analysis|scratchpad|begin_of_thought|end_of_thought)>"
    r"|<\|(?:channel|begin_of_thought|end_of_thought|start_thinking|end_thinking)\|>|\[/?THINK\]|◁/?think▷"
)

PLAIN = "|".join(
    (
        # The text as something handed over.
        rf"\b(?:the|this|your|above|these|those)? ?(?:provided|supplied|attached|given) (?:{_OURS} )?(?:policy|policies|spec|specification|clauses?|safety guidelines|content guidelines)\b",
        r"\b(?:polic(?:y|ies)|guidelines?|spec|specification|clauses?) (?:that (?:was|were|is|are) |i was |i(?:'ve| have) been |you )?(?:provided|supplied|given) (?:to me|above|here|in (?:the|my) (?:context|prompt|system))\b",
        r"\bpolicy (?:text|excerpt|document|spec|section|category|clause|overview)s? (?:above|provided|given|that applies|for this category|states?|says)\b",
        # The model's own rules.
        rf"\b(?:my|our|openai's|anthropic's) (?:own )?{_OURS} {_THING}\b",
        r"\bmy (?:polic(?:y|ies)|guidelines|spec|specification|programming guidelines|rulebook)\b",
        rf"\b(?:{_TEXT}|rules|instructions) (?:that )?(?:i|we) (?:(?:must|have to|am required to|need to|was told to|was asked to|am asked to|have been told to|am supposed to) )?(?:follow|operate under|work under|adhere to|abide by|comply with|was given|were given|am bound by|have been given)\b",
        rf"\b(?:i(?:'m| am)|we(?:'re| are)) (?:bound|restricted|prohibited|constrained|required|instructed|forbidden|governed|guided|barred|limited) (?:from [^.!?\n]{{1,60}} )?(?:by|under) (?:the|my|a|our|these|certain|strict)? ?(?:{_OURS} )?{_THING}\b",
        rf"\b(?:against|violates?|violating|in violation of|breach(?:es)? of|outside|under|per|by) (?:my|the (?:safety|content|usage|ai|moderation|provided|given)|these) (?:and \w+ )?{_THING}\b(?= (?:to (?:provide|help|assist|share|give|write)|(?:that )?i\b|for me\b|so i\b|and i\b|, so i\b))",
        rf"\b(?:my|the system) (?:instructions?|system prompt|prompt|developer message) {_RULES}\b",
        r"\b(?:according to|based on|as per|per|under|following|in line with|consistent with) my (?:system prompt|instructions|rules|polic\w+|guidelines|principles)\b",
        r"\bas an ai\b[^.!?\n]{0,60}\b(?:polic(?:y|ies)|guidelines)\b",
        r"\bpolicy (?:check|verdict|decision|outcome|assessment|analysis|status|applied)s? ?:",
        # How the policy sorts.
        r"\bsafe[-_]complet\w*\b",
        r"\b(?:disallowed|allowed|permitted|prohibited) (?:content|requests?) (?:categor(?:y|ies)|under|in the (?:policy|spec|guidelines))\b",
        r"\b(?:falls?|fit|fits|is|comes?|belongs?|classified|covered) (?:squarely |clearly )?(?:under|in|into|within|as|by) (?:the |a )?(?:polic(?:y|ies)(?:'s)? |disallowed |refuse |refusal |comply |safe[- ]completion |allowed |['\"“‘][\w -]+['\"”’] )+(?:category|categories|clauses?|section|outcome|bucket)\b",
        r"\b(?:as per|according to) (?:the )?(?:policy )?category\b",
        r"\bunder (?:the )?policy categor(?:y|ies)\b",
        rf"\b(?:this|your|the) (?:request|prompt|question|query) (?:violates|is disallowed|is not allowed|is permitted|is allowed|is prohibited|goes against|conflicts with|complies with|is covered|falls)(?: by| under| in| within)? (?:the|our|my|this) (?:{_OURS} )?{_THING}\b",
        rf"\b{_TEXT} (?:requires?|tells?|instructs?|forbids?|prohibits?|allows?|permits?|asks?|directs?) (?:me|us|the (?:assistant|model|ai)|(?:an )?assistants?) (?:to|from|not)\b",
        rf"\b{_TEXT} (?:prevents?|stops?|bars?|keeps?) me from\b",
        rf"\b(?:not allowed|unable|not permitted|can't|cannot|won't) [^.!?\n]{{0,60}}\b(?:because|since|as|due to|per|under) (?:of )?(?:the|my|our|a) (?:{_OURS} )?{_TEXT}\b(?! (?:of|from|for|at|in) (?:the|your|a|an|our)\b)",
    )
)

DOUBTFUL = "|".join(
    (
        rf"(?<!what )\b(?:the|this|that|these|those) (?:{_OURS} |relevant |applicable |above |stated |current |following )?{_TEXT} (?:(?:clearly|explicitly|also|here|specifically|above|(?:on|about|for) [\w-]+(?: [\w-]+)?) )?{_RULES}\b",
        rf"\b(?:i|we)(?:'ve| have)? (?:(?:must|have to|should|need to|will|can only) )?(?:follow(?:ed|ing)?|check(?:ed)?|consult(?:ed)?|appl(?:y|ied)|respect(?:ed)?|review(?:ed)?|obey) (?:the|this|these) (?:{_OURS} |relevant |applicable |above |stated )?{_TEXT}\b(?! (?:of|from|for|at|by|set)\b)",
        rf"\b(?:rules?|clauses?|sections?|parts?|principles?|exceptions?|definitions?|categor(?:y|ies)) (?:in|of|from|within) (?:the|this) (?:{_OURS} |relevant |above )?{_TEXT}\b",
        r"\b(?:the|this) (?:polic(?:y|ies)|guidelines?|spec|specification)'s? (?:clauses?|rules?|sections?|definitions?|categor(?:y|ies)|guidance)\b",
        rf"\b(?:dis)?(?:allowed|permitted|covered|prohibited|forbidden|required|banned|acceptable) (?:by|under|in|according to|per) (?:the|this|these) (?:{_OURS} |relevant |applicable |above |stated )?{_TEXT}\b(?! (?:of|from|for|at|by|set|you|your)\b)",
        rf"\b(?:according to|based on|as per|per|under|following|in line with|consistent with|in accordance with|as stated in|as outlined in|referring to|as required by|comply with|complies with|adher(?:e|es|ing) to|violates?|violating|against|by|given) (?:the|this|these|that) (?:{_OURS} |relevant |applicable |above |stated )?{_TEXT}\b(?! (?:of|from|for|at|by|in|set|issued|published|on|that your|you)\b)",
    )
)

_NOT_A_NAME = (
    "the|this|that|these|those|any|all|some|each|every|such|no|as|per|by|under|with|to|of|and|or|in|is|are|a|an|my|its|"
    "content|safety|usage|use|moderation|model|ai|ethical|provided|given|above|relevant|applicable|stated|current|specific|"
    "following|certain|strict|clear|safe|ethics|style|behavior|behaviour|operating|internal|against|from|on|about|which"
)
OTHER = "|".join(
    (
        # Another policy has a name: "insurance policy", "brand guidelines", "your school's policy", "WHO guidelines".
        rf"\b(?!(?:{_NOT_A_NAME})\b)[\w&'’.-]+ (?:polic(?:y|ies)|guidelines?|specs?|specification)\b",
        r"\bpolic(?:y|ies) ?(?:holder|maker|making|number|term|wording|debate|brief|analyst|schedule)",
        r"\bpolicyholders?\b|\bpolicymakers?\b",
        r"\b(?:polic(?:y|ies)|guidelines?|specs?|specification|clauses?) (?:of|from|for|at|by|issued|published|set|covers?) ",
        r"\b(?:approv|adopt|pass|wrote|sign|announc|draft|propos|repeal|revis|introduc|vot|renew|buy|bought)\w* (?:for |on )?(?:the|a|this|its|new|your|their) (?:new )?(?:polic|guideline|spec|clause)",
        r"\binsur\w+|\bpremiums?\b|\bdeductible\b|\bemployers?\b|\bHR\b|\blandlord\b|\btenancy\b|\blease\b|\bcontract\b|\bwarrant(?:y|ies)\b",
    )
)
WORDS = r"polic|guideline|\bspecs?\b|specification|clause|safe[-_]complet|\brules|instruction|principles|system prompt|developer message|category|disallowed"

"""A fake judge model behind a real HTTP server: it scores an answer by a rule, so that a reward can be seen to rise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from fake_openai_server import FakeOpenAI, Rule

_ANSWER = re.compile(r"<answer-(\w+)>\n(.*?)\n</answer-\1>", re.DOTALL)


class FakeRuleJudge(FakeOpenAI):
    """Verdicts by rule.

    Args:
        score: answer to a score from 1 to 5; 0 abstains.
    """

    def __init__(self, score: Callable[[str], int], *rules: Rule) -> None:
        super().__init__(*rules)
        self._score = score
        self.answers: list[str] = []

    def _answer(self, body: dict[str, Any], *, fault: str = "") -> bytes:
        found = _ANSWER.search(body["messages"][-1]["content"])
        answer = found.group(2) if found else ""
        self.answers.append(answer)
        mark = self._score(answer)
        names = body["response_format"]["json_schema"]["schema"]["required"][2:]
        verdict = {"justification": "by rule", "abstain": mark == 0, **dict.fromkeys(names, max(1, mark))}
        message = {"role": "assistant", "content": json.dumps(verdict)}
        choices = [{"index": at, "message": message, "finish_reason": "stop"} for at in range(body.get("n", 1))]
        return json.dumps({"id": "fake", "object": "chat.completion", "model": "fake", "choices": choices}).encode()

"""A fake model behind a real HTTP server that plays every role of a build by rule: some of its answers leak, it repairs
them when asked, criticises drafts, judges and compares. Nothing it says means anything."""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any

from fake_openai_server import FakeOpenAI

LEAK = "My content policy forbids more."
_FIRST = re.compile(r"<first-answer-(\w+)>\n(.*?)\n</first-answer-\1>", re.DOTALL)
_ANSWER = re.compile(r"<answer-(\w+)>\n(.*?)\n</answer-\1>", re.DOTALL)


class FakeRewriter(FakeOpenAI):
    """Answers by what it is asked. `position`: in pairwise verdicts it prefers the first answer, whatever it says."""

    def __init__(self, position: bool = False) -> None:
        super().__init__()
        self.position = position
        self.roles: dict[str, int] = {}

    def _answer(self, body: dict[str, Any], *, fault: str = "") -> bytes:
        system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
        schema = body["response_format"]["json_schema"]["schema"]["properties"]
        choices = []
        for index in range(body.get("n", 1)):
            mark = blake2b(f"{user}/{index}".encode(), digest_size=4).hexdigest()
            role, said = self.say(system, user, schema, mark)
            self.roles[role] = self.roles.get(role, 0) + 1
            message = {"role": "assistant", "content": json.dumps(said)}
            choices.append({"index": index, "message": message, "finish_reason": "stop"})
        return json.dumps({"id": "fake", "object": "chat.completion", "model": "fake", "choices": choices}).encode()

    def say(self, system: str, user: str, schema: dict[str, Any], mark: str) -> tuple[str, dict[str, Any]]:
        if "better" in schema:
            first = _FIRST.search(user)
            good = "well" in first.group(2)
            better = "first" if self.position or good else "second"
            return "compare", {"justification": "by rule", "abstain": False, "better": better}
        if "compliance" in schema:
            good = "well" in _ANSWER.search(user).group(2)
            marks = {name: 5 if good else 2 for name in schema if name not in ("justification", "abstain", "hint")}
            hint = {"hint": "disagree"} if "hint" in schema else {}
            return "judge", {"justification": "by rule", "abstain": False} | marks | hint
        anchor = re.search(r"for example \[([\w-]+)\]", system)
        if "mentions rules" in system:
            return "repair", {
                "reasoning": "I drop the words.",
                "answer": f"Here is my answer, {mark}, done well and with care.",
            }
        if "draft answer" in system:
            return "revise", {
                "reasoning": f"The draft ignores [{anchor.group(1)}] and could be kinder.",
                "answer": f"A revision, {mark}, done well and with care for you.",
            }
        if "policy above" not in system:
            return "contrast", {
                "reasoning": "I think about it for a while.",
                "answer": f"A plain answer, {mark}, as it comes.",
            }
        leak = f" {LEAK}" if int(mark[0], 16) % 2 else ""
        answer = f"An answer, {mark}, that is long enough to stand on its own and says what is to be said, well.{leak}"
        return "generate", {"reasoning": f"By [{anchor.group(1)}] this case is clear to me.", "answer": answer}

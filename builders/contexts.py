"""What each category's models are shown, rendered once and shared by keys."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec
from specdistill.specs.render import Rendered, render


class SpecContexts:
    """Rendered spec(category) of one spec.

    State: the loaded spec and the texts rendered so far. Rows carry category and digest, never the text.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._rendered: dict[str, Rendered] = {}

    @classmethod
    def load(cls, source: str | Path) -> SpecContexts:
        """From a library name, folder or Markdown file."""
        return cls(load_spec(source))

    def rendered(self, category: str) -> Rendered:
        """The rendered text, its digest and the anchors in it.

        Raises:
            SpecError: the spec has no such category.
        """
        if category not in self._rendered:
            self._rendered[category] = render(self.spec, category)
        return self._rendered[category]

    def text(self, category: str) -> str:
        """What the models are shown."""
        return self.rendered(category).text

    def digest(self, category: str) -> str:
        """Digest of what the models are shown."""
        return self.rendered(category).digest

    def example_anchor(self, category: str) -> str:
        """An anchor of the category, to show the citation form."""
        clauses = self.spec.category(category).clauses
        return clauses[0].anchor if clauses else sorted(self.rendered(category).anchors)[0]


@lru_cache(maxsize=8)
def contexts_at(folder: str) -> SpecContexts:
    """Contexts of a spec on disk; steps of one process share them."""
    return SpecContexts.load(folder)

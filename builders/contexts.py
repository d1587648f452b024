"""What each category's models are shown, rendered once and shared by keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from specdistill.schemas.digest import digest
from specdistill.schemas.vocabulary import UNION
from specdistill.specs.clauses import clause_frame
from specdistill.specs.loader import load_spec
from specdistill.specs.model import Spec
from specdistill.specs.render import Rendered, render


def categories_of(label: str) -> list[str]:
    """The categories a prompt's label names."""
    return label.split(UNION)


class SpecContexts:
    """Rendered spec(category) of one spec.

    State: the loaded spec and the texts rendered so far. Rows carry category and digest, never the text.

    Args:
        examples: whether worked examples are shown.
        budget: most tokens of a rendered text; needs `count`.
        count: tokens of a text.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        examples: bool = False,
        budget: int | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self.spec, self.examples, self.budget, self.count = spec, examples, budget, count
        self._rendered: dict[str, Rendered] = {}
        self._category_digests: dict[str, str] = {}
        self._example_anchors: dict[str, str] = {}

    @classmethod
    def load(cls, source: str | Path, *, examples: bool = False) -> SpecContexts:
        """From a library name, folder or Markdown file."""
        return cls(load_spec(source), examples=examples)

    def rendered(self, label: str) -> Rendered:
        """The rendered text, its digest and the anchors in it.

        Args:
            label: a category, or several joined by `+`.

        Raises:
            SpecError: the spec has no such category, or the text is over the budget (the error names what to cut).
        """
        if label not in self._rendered:
            self._rendered[label] = render(
                self.spec, categories_of(label), examples=self.examples, budget=self.budget, count=self.count
            )
        return self._rendered[label]

    def text(self, label: str) -> str:
        """What the models are shown."""
        return self.rendered(label).text

    def digest(self, label: str) -> str:
        """Digest of what the models are shown."""
        return self.rendered(label).digest

    def category_digest(self, label: str) -> str:
        """Digest of the category's own content (of all of them, for a union), whatever else is shown with it."""
        if label not in self._category_digests:
            digests = [self.spec.category(name).digest for name in self.rendered(label).categories]
            self._category_digests[label] = digests[0] if len(digests) == 1 else digest(*digests)
        return self._category_digests[label]

    @property
    def anchors(self) -> frozenset[str]:
        """Every clause anchor of the spec."""
        return frozenset(clause_frame(self.spec)["anchor"].to_list())

    def example_anchor(self, label: str) -> str:
        """An anchor of the category, to show the citation form."""
        if label not in self._example_anchors:
            clauses = self.spec.category(categories_of(label)[0]).clauses
            self._example_anchors[label] = clauses[0].anchor if clauses else sorted(self.rendered(label).anchors)[0]
        return self._example_anchors[label]

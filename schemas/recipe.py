"""The recipe: everything a build is asked for, as one strict YAML document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from specdistill.schemas.recipe_prompts import (
    Clean,
    EvalSet,
    Evaluation,
    OutcomeName,
    Overlap,
    PromptSource,
    Share,
    Strict,
)
from specdistill.schemas.recipe_selection import Constitution, Heuristic, Preference, Repair, Screens
from specdistill.schemas.vocabulary import CRITERIA


class Context(Strict):
    """What of the spec the models are shown beside overview, style and the category in full."""

    examples: bool = False
    """The worked examples of the category."""
    budget: int | None = Field(default=None, ge=1)
    """Most tokens of spec(category); a build that needs more is refused, with what to cut."""
    tokenizer: str | None = None
    """What the budget is counted with: tokenizer.json, model folder or hub id; default is the generator's model."""


class Engine(Strict):
    """A model and how to sample from it."""

    engine: Literal["vllm", "openai", "transformers"] = "vllm"
    model: str
    """Hub id, local folder, or `embedded` for the small model that ships as a package."""
    base_url: str | list[str] | None = None
    """For `openai`: the server, up to and including /v1, or a list of servers that have the same model."""
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """Name of the environment variable that holds the key; never the key itself."""
    reasoning: Literal["native", "prompted", "guided"] = "native"
    """How reasoning is had: the model's own thinking, tags asked for in the prompt, or a JSON schema."""
    temperature: float = Field(default=0.7, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=4096, ge=1)
    """Most tokens of one sample, reasoning included."""
    seed: int = 0
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight at once."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds for one request."""
    retries: int = Field(default=5, ge=0)
    """Further tries of a request that failed for a passing reason."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed on: engine arguments for vllm and transformers, extra body fields for openai."""

    @model_validator(mode="after")
    def server_has_address(self) -> Engine:
        """The openai engine needs an address."""
        if self.engine == "openai" and not self.base_url:
            raise ValueError("engine 'openai' needs base_url, e.g. http://127.0.0.1:8000/v1")
        if self.engine != "openai" and self.base_url:
            raise ValueError(f"base_url is for engine 'openai', not '{self.engine}'")
        if "" in self.addresses:
            raise ValueError("base_url has an empty address")
        if twice := {one for one in self.addresses if self.addresses.count(one) > 1}:
            raise ValueError(f"base_url names a server twice: {', '.join(sorted(twice))}")
        return self

    @property
    def addresses(self) -> list[str]:
        """Of every server; empty for an engine without any."""
        if self.base_url is None:
            return []
        found = [self.base_url] if isinstance(self.base_url, str) else self.base_url
        return [address.rstrip("/") for address in found]


class Generator(Engine):
    """The reasoning model that answers with spec(category) in context."""

    samples: int = Field(default=4, ge=1)
    """Candidates a prompt."""
    placement: Literal["system", "wrapped"] = "system"
    """Spec in a system prompt (paper, section 1) or wrapped after the conversation (figure 5)."""
    reasoning_chars: int = Field(default=6000, ge=1)
    """Most characters of a guided reasoning; keep it within max_tokens."""
    answer_chars: int = Field(default=6000, ge=1)
    """Most characters of a guided answer; one of exactly this length counts as truncated."""


class Classifier(Engine):
    """The model that gives unlabelled prompts their categories, with the spec's overview in view."""

    reasoning: Literal["native", "prompted", "guided"] = "guided"
    max_tokens: int = Field(default=400, ge=1)
    k: int = Field(default=3, ge=1)
    """Samples a prompt."""
    confidence: Share = 0.6
    """Least share of all k samples that name a category; below it a prompt goes to people, not into the set."""
    check: int = Field(default=100, ge=0)
    """So many prompts with a given category are classified too, to report how often it agrees."""


class Contrast(Strict):
    """The same model without the spec: honest rejected candidates."""

    spec: Literal[False] = False
    samples: int = Field(default=1, ge=1)


class Adaptive(Strict):
    """Fewer judge samples for candidates that can no longer be accepted."""

    first: int = Field(default=1, ge=1)
    """Samples before the first look; then as many again as there are, until k."""
    whole: Share = 0.1
    """Share of the candidates, drawn by id, that always get all k: the judge's noise is measured on them alone."""


class Juror(Engine):
    """One more judge: the same rubric and the same spec in view, another model or sampling."""

    reasoning: Literal["native", "prompted", "guided"] = "guided"
    temperature: float = Field(default=0.7, ge=0.0)
    max_tokens: int = Field(default=1024, ge=1)
    k: int = Field(default=5, ge=1)
    """Judge samples a candidate."""


class Judge(Engine):
    """The model that scores candidates with the same spec in view."""

    reasoning: Literal["native", "prompted", "guided"] = "guided"
    temperature: float = Field(default=0.7, ge=0.0)
    max_tokens: int = Field(default=1024, ge=1)
    k: int = Field(default=5, ge=1)
    """Judge samples a candidate."""
    aggregate: Literal["min", "mean", "median", "max"] | Annotated[str, Field(pattern=r"^q\d{1,2}$")] = "min"
    """How k samples become one score; `q25` is the 25th percentile. The paper takes the minimum."""
    threshold: Share = 0.8
    """Least aggregated score of an accepted candidate."""
    justification_chars: int = Field(default=600, ge=1)
    """Most characters of a verdict's justification; keep it within max_tokens."""
    min_votes: int | None = Field(default=None, ge=1)
    """Least samples that must give a score; default is more than half of k."""
    hint: bool = False
    """Show the judge the prompt's expected outcome as another AI's opinion and record whether it agrees. The paper does
    so; the answer is recorded and is never a label."""
    adaptive: Adaptive | None = None
    """Stop asking about candidates that are certain to be rejected; accepted ones always have all k samples."""
    panel: list[Juror] = Field(default_factory=list)
    """More judges. Each aggregates its own samples; `vote` makes one score of theirs."""
    vote: Literal["mean", "min", "median", "max"] = "mean"
    """How the judges' scores become one."""
    weights: dict[str, float] = Field(
        default_factory=lambda: {
            "compliance": 0.5,
            "helpfulness": 0.2,
            "correctness": 0.2,
            "reasoning_quality": 0.1,
        }
    )
    """Weight of each criterion in a sample's score; normalised to sum 1."""

    @model_validator(mode="after")
    def votes_and_weights(self) -> Judge:
        """min_votes is reachable, weights name criteria and are not all zero."""
        if self.min_votes is not None and self.min_votes > self.k:
            raise ValueError(f"min_votes ({self.min_votes}) is larger than k ({self.k})")
        if self.adaptive and self.panel:
            raise ValueError("adaptive judging is for one judge: the others of a panel may still change its verdict")
        if unknown := set(self.weights) - set(CRITERIA):
            raise ValueError(f"weights name unknown criteria {sorted(unknown)}; known: {', '.join(CRITERIA)}")
        if any(weight < 0 for weight in self.weights.values()) or sum(self.weights.values()) <= 0:
            raise ValueError("weights must be non-negative and not all zero")
        self.refuse_doubles()
        return self

    def refuse_doubles(self) -> None:
        """No two judges have one key, in which where they run is not: their verdicts would be taken for one judge's.

        Raises:
            ValueError: two are told apart by nothing that decides their text.
        """
        sampling = {"model", "temperature", "top_p", "max_tokens", "seed", "reasoning"}
        keys = [
            one.model_dump(include=sampling | ({"options"} if one.engine == "openai" and one.options else set()))
            for one in self.judges
        ]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise ValueError(
                    f"panel: judge {number} of it samples {key['model']} as another judge does, wherever they run; "
                    "give another seed or model, or raise k"
                )

    @property
    def judges(self) -> list[Judge]:
        """This judge and each of its panel, as judges of their own."""
        shared = self.model_copy(update={"panel": [], "min_votes": None})
        fields = Juror.model_fields
        return [
            self.model_copy(update={"panel": []}),
            *(shared.model_copy(update={name: getattr(one, name) for name in fields}) for one in self.panel),
        ]

    @property
    def votes_needed(self) -> int:
        """Least number of scores for a verdict."""
        return self.min_votes if self.min_votes is not None else self.k // 2 + 1


class Quota(Strict):
    """How many accepted rows are wanted. With a quota, generation goes in rounds until it is met or cannot be."""

    per_category: int | None = Field(default=None, ge=1)
    """Accepted rows wanted in each category, and at most; none means no limit."""
    per_outcome: dict[OutcomeName, int] = Field(default_factory=dict)
    """Accepted rows wanted in each category for prompts of an expected outcome: {refuse: 60, comply: 60}."""
    max_samples_per_prompt: int = Field(default=8, ge=1)
    """Most accepted rows a prompt."""
    budget: int | None = Field(default=None, ge=1)
    """Most candidates a category; default is what prompts times generator.samples allow."""
    strict: bool = False
    """Fail when a quota is not met."""

    @model_validator(mode="after")
    def outcomes_fit(self) -> Quota:
        """The outcomes' quotas are positive and fit into the category's."""
        if any(wanted < 1 for wanted in self.per_outcome.values()):
            raise ValueError("per_outcome numbers must be 1 or more")
        asked = sum(self.per_outcome.values())
        if self.per_category is not None and asked > self.per_category:
            raise ValueError(f"per_outcome asks for {asked} rows, more than per_category ({self.per_category})")
        return self

    @property
    def asked(self) -> bool:
        """Whether a number of accepted rows is wanted at all."""
        return self.per_category is not None or bool(self.per_outcome)


class Budget(Strict):
    """Most tokens that the whole run may cost, as the engines count them, over all its steps and sessions. A build that
    reaches one asks nothing more, keeps what is in flight, and goes on when it is raised."""

    completion_tokens: int | None = Field(default=None, ge=1)
    """Generated tokens, reasonings and verdicts included; none means no limit."""
    prompt_tokens: int | None = Field(default=None, ge=1)
    """Tokens of requests, counted once a request and whether or not a server had them cached."""


class Split(Strict):
    """Shares of prompts, per category, that go to other splits than train."""

    test: Share = 0.1
    seed: int = 0


class Audit(Strict):
    """What people are shown, and how their answers count."""

    per_category: int = Field(default=20, ge=0)
    """Rows a category, control included."""
    pairs: int = Field(default=100, ge=0)
    """Preference pairs, control included."""
    random_control: Share = 0.2
    """Share of each that is drawn at random: without it nobody can say how good the judge is."""
    show_judge: Literal["borderline", "all", "none"] = "borderline"
    """Where people see the judge's view. On the control slice it would anchor them, so by default not there."""
    min_annotators: int = Field(default=1, ge=1)
    """Answers a record needs before it counts."""
    tie: Literal["reject", "judge"] = "reject"
    """What equal votes mean: the row goes, or the judge's verdict stays."""
    max_disagreement: Share = 0.34
    """Largest share of the smaller side; above it another annotator is asked."""
    seed: int = 0
    """Of the random draw."""


class Licences(Strict):
    """Licence of each ingredient, for the card; SPDX ids or `other`. Nothing is assumed."""

    prompts: str | None = None
    models: str | None = None
    dataset: str | None = None


class Recipe(Strict):
    """A whole build."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
    spec: str
    """A packaged library, a folder, or a Markdown file."""
    context: Context = Context()
    prompts: list[PromptSource] = Field(min_length=1)
    clean: Clean = Clean()
    decontaminate: list[EvalSet] = Field(default_factory=list)
    overlap: Overlap = Overlap()
    classifier: Classifier | None = None
    evaluation: Evaluation | None = None
    generator: Generator
    judge: Judge
    contrast: Contrast | None = None
    repair: Repair | None = None
    constitution: Constitution | None = None
    screens: Screens = Screens()
    quota: Quota = Quota()
    budget: Budget = Budget()
    preference: Preference = Preference()
    heuristic: Heuristic = Heuristic()
    split: Split = Split()
    audit: Audit = Audit()
    licences: Licences = Licences()

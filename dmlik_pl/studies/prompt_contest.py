"""Which prompts compete for each image of a batch, and what they compete on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Protocol

from torch import Tensor

from dmlik_pl.flow import Condition, ProbabilityFlow
from dmlik_pl.studies.base import Images

__all__ = [
    "Contest",
    "Question",
    "attribute_questions",
    "check_candidates",
    "check_template",
    "listed_questions",
]


class CaptionedImages(Images, Protocol):
    """A batch of images with lists of prompts that compete for each."""

    candidates: list[list[str]]


@dataclass(frozen=True)
class Question:
    """One decision: which of several values is true of a sample.

    Attributes:
        sample: Position of the sample in its batch.
        attribute: What is asked, e.g. "colour"; "prompt" where whole prompts compete.
        truth: The true value.
        prompts: The prompt of every value that competes, the true one among them.
    """

    sample: int
    attribute: str
    truth: str
    prompts: Mapping[str, str]

    @property
    def values(self) -> list[str]:
        """The values that compete."""
        return list(self.prompts)


def check_candidates(attribute: str, values: Sequence[str]) -> None:
    """Raise a ValueError unless values can compete and are distinct in records."""
    if len(set(values)) < 2 or len(set(values)) < len(values):
        raise ValueError(f"candidates of {attribute!r} must be two or more different values: {list(values)}")


def check_template(template: str, candidates: Mapping[str, Sequence[str]]) -> list[str]:
    """Names in the braces of a template.

    Raises:
        ValueError: If there is anything but a name in braces, or an attribute whose candidates make one prompt.
    """
    if not candidates:
        raise ValueError("candidates is empty: name at least one attribute with the values that compete")
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}; a brace that is meant as such is written twice") from error
    names = [str(name) for _, name, _, _ in fields]
    if not all(name.isidentifier() for name in names) or any(form or change for _, _, form, change in fields):
        raise ValueError(f"template {template!r}: only the name of an attribute may be in braces")
    if idle := [name for name in candidates if name not in names]:
        raise ValueError(f"template {template!r} has no {{{idle[0]}}}, so that all its candidates make the same prompt")
    return names


def attribute_questions(batch: Images, template: str, candidates: Mapping[str, Sequence[str]]) -> list[Question]:
    """Ask for each attribute of each sample, the other attributes being true.

    Args:
        batch: Images with their true attributes.
        template: Prompt with the attributes' names in braces.
        candidates: The values of each attribute that compete.

    Raises:
        ValueError: If the data lack an attribute, or a true value is not among the candidates.
    """
    questions = []
    named = check_template(template, candidates)
    for b in range(len(batch.sample_id)):
        truth = {name: values[b] for name, values in batch.attributes.items()}
        for attribute, values in candidates.items():
            if attribute not in truth:
                raise ValueError(
                    f"the data have no attribute {attribute!r}, only {', '.join(truth)}: correct `candidates`"
                )
            if truth[attribute] not in values:
                raise ValueError(f"the true {attribute}, {truth[attribute]!r}, is not among its candidates {values}")
            if unknown := [name for name in named if name not in truth]:
                raise ValueError(
                    f"template {template!r} names {unknown[0]!r}, and the data have only {', '.join(truth)}"
                )
            prompts = {value: template.format(**{**truth, attribute: value}) for value in values}
            questions.append(Question(b, attribute, truth[attribute], prompts))
    return questions


def listed_questions(batch: CaptionedImages) -> list[Question]:
    """Ask for the prompt of each sample among those that the data name for it.

    Raises:
        ValueError: If the data name none.
    """
    lists = getattr(batch, "candidates", None) or [[]] * len(batch.sample_id)
    questions = []
    for b, (prompt, prompts) in enumerate(zip(batch.prompt, lists, strict=True)):
        if prompt not in prompts:
            raise ValueError(
                f"the data name no prompts that compete with {prompt!r} of {batch.sample_id[b]}: give the study "
                "`template` and `candidates`, or take data that have lists of prompts, such as "
                "dmlik_pl.data.captioned.ImagePrompts"
            )
        check_candidates("prompt", prompts)
        questions.append(Question(b, "prompt", prompt, {each: each for each in prompts}))
    return questions


@dataclass(frozen=True)
class Contest:
    """Everything that competes for the B samples of a batch: N entries, each different prompt of each sample once.

    Attributes:
        flow: What scores them.
        sample_ids: The samples' names, B, which key noise: the entries of a sample share it.
        questions: All decisions to take.
        entries: Position of the sample and prompt of each entry, N.
        x: What is scored, [N, ...].
        condition: Conditions of the entries.
        first: The first entry of each sample, its true prompt, B.
    """

    flow: ProbabilityFlow
    sample_ids: list[str]
    questions: list[Question]
    entries: list[tuple[int, str]]
    x: Tensor
    condition: Condition
    first: list[int]
    _places: dict[tuple[int, str], int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {entry: place for place, entry in enumerate(self.entries)})

    @staticmethod
    def list_entries(questions: Sequence[Question]) -> list[tuple[int, str]]:
        """The entries of some questions, for each sample the true prompt first."""
        true = {question.sample: question.prompts[question.truth] for question in questions}
        entries = [
            (question.sample, prompt)
            for question in questions
            for prompt in (true[question.sample], *question.prompts.values())
        ]
        return list(dict.fromkeys(entries))

    def places(self, question: Question) -> dict[str, int]:
        """The entry of every value of a question."""
        return {value: self._places[question.sample, prompt] for value, prompt in question.prompts.items()}

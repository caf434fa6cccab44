"""Is a BERT any good? Ask any models the same questions about one text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bert_scratch.config import InputError, check_choice, check_range
from bert_scratch.data.corpus import DOCUMENT_RULES
from bert_scratch.data.sentences import check_sentence_rule
from bert_scratch.inference import verdict
from bert_scratch.inference.score_answers import ModelScore, ReportProgress, ask
from bert_scratch.inference.score_questions import (
    Contestant,
    References,
    make_questions,
    reference_answers,
)
from bert_scratch.inference.text_sample import MIN_SENTENCES, read_text
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.model.devices import take_device


@dataclass(frozen=True, kw_only=True)
class ScoreConfig(ComputeSettings):
    """Compare models, of any vocabularies, on a text they were not trained on."""

    model: tuple[str, ...]
    """One or more model folders, checkpoints or hub ids."""
    text: str
    """A file, folder or glob, as prepare's --corpus; best one that no model has seen."""
    num_lines: int = 320
    """Sentences to ask about; bits per character, the slowest to compute, use a quarter of them."""
    documents: str = "auto"
    """What separates documents: auto, blank-lines, files, lines or titles."""
    sentences: str = "auto"
    """How lines become sentences: auto, lines, rules, or a library, as for prepare."""
    seed: int = 0
    """Draws the sentences, and the words to hide."""
    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        if not self.model:
            raise InputError("--model needs at least one model")
        check_range("--num-lines", self.num_lines, at_least=MIN_SENTENCES)
        check_choice("--documents", self.documents, DOCUMENT_RULES)
        check_sentence_rule(self.sentences)
        check_range("--seed", self.seed, at_least=0)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The answers of all models, and their verdicts."""

    text: str
    num_sentences: int
    """Sentences asked about, including those that follow them."""
    num_characters: int
    """Characters whose bits are counted, without white space."""
    num_masked_words: int
    num_pairs: int
    """Sentence pairs that follow each other or not; 0 if the text has none."""
    num_other_characters: int
    """Characters of the rest of the text, which the references have read."""
    references: References
    models: list[ModelScore]

    @property
    def verdicts(self) -> list[str]:
        """What to do, in words: one sentence per model, then one for all."""
        return verdict.verdicts(
            self.models, self.references, has_counts=self.num_other_characters > 0
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        models = [model.to_dict() for model in self.models]
        own = {name: value for name, value in vars(self).items() if name != "models"}
        own["references"] = asdict(self.references)
        return {**own, "models": models, "verdicts": self.verdicts}


def score(
    config: ScoreConfig, progress: Callable[[int], ReportProgress] = lambda _total: _silent
) -> Score:
    """Ask every model the same questions.

    Args:
        config: models and text.
        progress: called with the number of sentences that all models together will be asked
            about; returns a function that reports each step.

    Raises:
        InputError: if a model or the text cannot be used.
    """
    device = take_device(config)
    contestants = [Contestant.find(name) for name in config.model]
    questions = make_questions(
        read_text(config.text, documents=config.documents, sentences=config.sentences),
        contestants,
        num_sentences=config.num_lines,
        seed=config.seed,
        source=f"--text {config.text}",
    )
    sample, pairs = questions.sample, questions.pairs
    num_pairs = 0 if pairs is None else 2 * len(pairs.following)
    asked = len(questions.few) + len(sample.sentences) + num_pairs
    asked += len(questions.all_sentences) + (2 * len(sample.followers))
    report = progress(len(contestants) * asked)
    return Score(
        text=config.text,
        num_sentences=len(questions.all_sentences),
        num_characters=sum(len("".join(text.split())) for text in questions.few),
        num_masked_words=len(questions.hidden.words()),
        num_pairs=num_pairs,
        num_other_characters=sum(map(len, sample.rest)),
        references=reference_answers(questions),
        models=[ask(contestant, questions, device, report) for contestant in contestants],
    )


def _silent(_what: str, _num_sentences: int) -> None:
    pass

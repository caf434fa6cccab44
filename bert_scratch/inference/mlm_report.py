"""Where a masked language model is right: by frequency, part of word, position and confidence.

Letters: N masked tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from bert_scratch.config import InputError, check_choice, check_range
from bert_scratch.data.corpus import DOCUMENT_RULES
from bert_scratch.data.encoding import TextEncoder, encode_with_offsets
from bert_scratch.data.sentences import check_sentence_rule
from bert_scratch.data.wordpiece import unselectable_ids, vocab_size_of
from bert_scratch.inference.estimate import Estimate, proportion
from bert_scratch.inference.inputs import ModelOptions, fits_row
from bert_scratch.inference.masked_guesses import Answers, MaskedRow, answer_rows
from bert_scratch.inference.masked_words import MASKED_SHARE
from bert_scratch.inference.text_sample import MIN_SENTENCES, read_text, sample_sentences
from bert_scratch.inference.whole_words import is_word
from bert_scratch.model.heads import BertForMaskedLM

FREQUENCIES = (0, 1, 10, 100, 1000, 10_000)
"""Lower bounds of frequency bands: how often a token occurs in the rest of the text."""
PLACES = (1, 2, 3, 5, 9, 17, 33)
"""Lower bounds of position bands, the first token of a sentence being 1."""
PARTS = ("whole word", "first piece", "middle piece", "last piece", "punctuation")


@dataclass(frozen=True, kw_only=True)
class MlmReportConfig(ModelOptions):
    """Show where a masked language model is right, and whether its probabilities can be trusted."""

    text: str
    """A file, folder or glob, as prepare's --corpus; best one that the model has not seen."""
    num_lines: int = 1000
    """Sentences to mask 15 % of."""
    documents: str = "auto"
    """What separates documents: auto, blank-lines, files, lines or titles."""
    sentences: str = "auto"
    """How lines become sentences: auto, lines, rules, or a library, as for prepare."""
    seed: int = 0
    """Draws the sentences, and the tokens to mask."""
    json: bool = False
    """Print one JSON object instead of tables."""
    output_html: str | None = None
    """Also write a page with plots to this file; it needs no network."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the flag.
        """
        super().__post_init__()
        check_range("--num-lines", self.num_lines, at_least=MIN_SENTENCES)
        check_choice("--documents", self.documents, DOCUMENT_RULES)
        check_sentence_rule(self.sentences)
        check_range("--seed", self.seed, at_least=0)


@dataclass(frozen=True, kw_only=True)
class MaskedTokens:
    """The tokens that were masked, and the model's predictions for them."""

    count: npt.NDArray[np.int64]
    """[N] how often the token occurs in the rest of the text."""
    part: npt.NDArray[np.int64]
    """[N] index into PARTS."""
    place: npt.NDArray[np.int64]
    """[N] its position in the sentence, from 1."""
    is_right: npt.NDArray[np.bool_]
    """[N] whether the most probable token is the original one."""
    confidence: npt.NDArray[np.float64]
    """[N] the probability of the most probable token."""
    loss: npt.NDArray[np.float64]
    """[N] -ln of the probability of the original token."""
    count_loss: npt.NDArray[np.float64] | None
    """[N] the same, predicted by token counts in the rest of the text, 0.5 added to each; None if
    there is no rest."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Masked tokens that have something in common."""

    name: str
    num_tokens: int
    accuracy: Estimate
    loss: float
    """Mean loss, in nats."""
    count_loss: float | None
    """Mean loss of counts alone, the baseline to beat; None if there is nothing to count in."""
    confidence: float
    """Mean probability of the most probable token."""


@dataclass(frozen=True, kw_only=True)
class MlmReport:
    """Masked accuracy, grouped in several ways; groups of fewer than two tokens are left out."""

    model: str
    text: str
    num_sentences: int
    num_counted_tokens: int
    """Tokens of the rest of the text, which the counts are of; 0 if the text is one document."""
    whole: Group
    by_frequency: list[Group]
    """Groups by how often the token occurs in the rest of the text; none if there is no rest."""
    by_part: list[Group]
    by_place: list[Group]
    """Groups by position in the sentence."""
    by_confidence: list[Group]
    """Groups by tenths of the probability of the most probable token: the calibration curve."""
    calibration_error: float
    """Mean distance between accuracy and confidence over tenths, weighted by their tokens."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; without the frequencies and losses of counts if not counted."""
        values = asdict(self, dict_factory=lambda items: {k: v for k, v in items if v is not None})
        if not self.num_counted_tokens:
            del values["by_frequency"]
        return values


def mlm_report(
    config: MlmReportConfig, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> MlmReport:
    """Mask tokens of a text and group the model's guesses.

    Args:
        config: model and text.
        progress: called with the number of sentences done and the total.

    Raises:
        InputError: if model or text cannot be used.
    """
    model, tokenizer = config.load(BertForMaskedLM)
    sample = sample_sentences(
        read_text(config.text, documents=config.documents, sentences=config.sentences),
        num_sentences=config.num_lines,
        seed=config.seed,
        fits=functools.partial(fits_row, tokenizer, model.config),
        source=f"--text {config.text}",
    )
    counts = token_counts(tokenizer, sample.rest)
    tokens = masked_tokens(
        model, tokenizer, sample.sentences, counts, seed=config.seed, progress=progress
    )
    if not len(tokens.loss):
        raise InputError(
            f"--text {config.text}: no token of its sentences can be masked, because all are [UNK] "
            f"in the vocabulary of --model {config.model}; give a text in the model's language"
        )
    has_counts = tokens.count_loss is not None
    return MlmReport(
        model=config.model,
        text=config.text,
        num_sentences=len(sample.sentences),
        num_counted_tokens=int(counts.sum()),
        whole=_group("all", tokens, np.ones(len(tokens.loss), bool)),
        by_frequency=_groups(tokens, tokens.count, _bands(FREQUENCIES)) if has_counts else [],
        by_part=_groups(tokens, tokens.part, {name: (n, n) for n, name in enumerate(PARTS)}),
        by_place=_groups(tokens, tokens.place, _bands(PLACES)),
        by_confidence=_groups(tokens, _tenths(tokens.confidence), _TENTHS),
        calibration_error=calibration_error(tokens.confidence, tokens.is_right),
    )


def token_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return [V], how often each token occurs in texts."""
    counts = np.zeros(vocab_size_of(tokenizer), np.int64)
    for ids in TextEncoder(tokenizer).encode(texts):
        np.add.at(counts, ids, 1)
    return counts


def masked_tokens(
    model: BertForMaskedLM,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    counts: npt.NDArray[np.int64],
    *,
    seed: int,
    progress: Callable[[int, int], None],
) -> MaskedTokens:
    """Mask 15 % of the tokens of each sentence, at least one, and ask the model.

    Args:
        model: on any device.
        tokenizer: the model's.
        sentences: each no longer than a row.
        counts: [V], token counts in other text.
        seed: draws the tokens.
        progress: as in `mlm_report`.
    """
    encodings = encode_with_offsets(tokenizer, sentences)
    rows = _masked_rows(tokenizer, encodings, seed)
    answers: dict[int, Answers] = {}
    for indices, found in answer_rows(model, tokenizer, rows):
        answers.update(zip(indices, found, strict=True))
        progress(len(answers), len(rows))
    ordered = [answers[index] for index in range(len(rows))]
    ids = np.array([row.ids[place] for row in rows for place in row.masked], np.int64)
    asked = list(zip(encodings, rows, strict=True))
    parts = [_part(encoding, token) for encoding, row in asked for token in row.masked]
    total = counts.sum() + 0.5 * len(counts)
    return MaskedTokens(
        count=counts[ids],
        part=np.array(parts, np.int64),
        place=np.array([place + 1 for row in rows for place in row.masked], np.int64),
        is_right=np.concatenate([answer.ids for answer in ordered]) == ids,
        confidence=np.concatenate([a.probabilities for a in ordered]).astype(np.float64),
        loss=np.concatenate([answer.losses for answer in ordered]).astype(np.float64),
        count_loss=-np.log((counts[ids] + 0.5) / total) if counts.any() else None,
    )


def calibration_error(
    confidence: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]
) -> float:
    """Return the mean distance of confidence from accuracy over tenths, weighted by their tokens.

    Args:
        confidence: [N], 0 to 1.
        is_right: [N].

    Source:
        Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3, with 10 bins.
    """
    tenths = _tenths(confidence)
    sums = np.bincount(tenths, weights=confidence - is_right, minlength=len(_TENTHS))
    return float(np.abs(sums).sum() / len(confidence))


def _masked_rows(tokenizer: Tokenizer, encodings: Sequence[Encoding], seed: int) -> list[MaskedRow]:
    random = np.random.Generator(np.random.Philox(seed))
    never = set(unselectable_ids(tokenizer))
    rows = []
    for encoding in encodings:
        places = [place for place, index in enumerate(encoding.ids) if index not in never]
        num_masked = min(len(places), max(1, round(MASKED_SHARE * len(places))))
        chosen = random.choice(np.array(places, np.int64), num_masked, replace=False)
        rows.append(MaskedRow(encoding.ids, sorted(chosen.tolist())))
    return rows


def _part(encoding: Encoding, token: int) -> int:
    """Return which part of its word a token is, as an index into PARTS."""
    words = encoding.word_ids
    continues = token > 0 and words[token - 1] == words[token]
    goes_on = token + 1 < len(words) and words[token + 1] == words[token]
    name = {
        (False, False): "whole word" if is_word(encoding.tokens[token]) else "punctuation",
        (False, True): "first piece",
        (True, True): "middle piece",
        (True, False): "last piece",
    }[continues, goes_on]
    return PARTS.index(name)


Bands = dict[str, tuple[int, float]]
"""Name -> first and last value."""

_TENTHS: Bands = {f"{n / 10:.1f}": (n, n) for n in range(10)}


def _tenths(confidence: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.minimum((10 * confidence).astype(np.int64), 9)


def _bands(starts: Sequence[int]) -> Bands:
    """Name bands of integers that begin at each start; the last is open-ended."""
    bands: Bands = {}
    for first, last in zip(starts, [*(start - 1 for start in starts[1:]), np.inf], strict=True):
        name = f"{first:,}" if first == last else f"{first:,}-{last:,}"
        bands[f"{first:,}+" if last == np.inf else name] = (first, last)
    return bands


def _groups(tokens: MaskedTokens, values: npt.NDArray[np.int64], bands: Bands) -> list[Group]:
    """Return the groups of the bands that hold at least two tokens."""
    chosen = {name: (values >= a) & (values <= b) for name, (a, b) in bands.items()}
    return [_group(name, tokens, flags) for name, flags in chosen.items() if flags.sum() > 1]


def _group(name: str, tokens: MaskedTokens, flags: npt.NDArray[np.bool_]) -> Group:
    return Group(
        name=name,
        num_tokens=int(flags.sum()),
        accuracy=proportion(tokens.is_right[flags]),
        loss=float(tokens.loss[flags].mean()),
        count_loss=None if tokens.count_loss is None else float(tokens.count_loss[flags].mean()),
        confidence=float(tokens.confidence[flags].mean()),
    )

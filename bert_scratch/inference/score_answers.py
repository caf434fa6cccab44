"""One model's answers to the questions of `score`.

Letters: N sentences, L layers, D hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.bits_per_character import (
    SentenceBits,
    joined_bits,
    lost_by,
    sentence_bits,
)
from bert_scratch.inference.displaced_words import DisplacedWords, word_states
from bert_scratch.inference.embed import embed
from bert_scratch.inference.estimate import Estimate, proportion
from bert_scratch.inference.inputs import batches
from bert_scratch.inference.linear_probe import probe_layers
from bert_scratch.inference.masked_words import HiddenWords, restored_by_model
from bert_scratch.inference.next_sentence import has_learned_next_sentence, next_sentences
from bert_scratch.inference.score_questions import Contestant, Questions
from bert_scratch.inference.sentence_pairs import SentencePairs, nearer_than_others
from bert_scratch.inference.text_sample import TextSample
from bert_scratch.inference.whole_words import tokens_of_words, word_spans
from bert_scratch.model.folder import to_ours
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.weight_files import read_weights

ReportProgress = Callable[[str, int], None]
"""Called with what was asked, and about how many sentences."""


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """A model's results on the text; None if it lacks the head, or the text has no pairs."""

    model: str
    num_parameters: int
    """Parameters of the encoder."""
    vocab_size: int
    bits: SentenceBits | None
    """The cost of each sentence in bits."""
    loses: tuple[str, ...]
    """Distinctions its normaliser removes: case, accents."""
    pieces_per_word: float
    unknown_words: float
    """Share of words that contain an [UNK]."""
    masked_words: Estimate | None
    """Share of the hidden words that it restores."""
    displaced_words: list[Estimate]
    """L + 1: how often a linear probe of each layer is right about words out of place."""
    next_sentence: Estimate | None
    """Share of pairs that it correctly classifies as following each other or not."""
    nearest_sentence: Estimate | None
    """Share of other sentences that are farther than the next one, by their mean vectors."""

    @property
    def best_layer(self) -> int:
        """The layer whose probe is right most often; 0 is the embeddings."""
        return max(range(len(self.displaced_words)), key=lambda n: self.displaced_words[n].mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = asdict(self)
        if self.bits is not None:
            values["bits"] = {
                "per_character": asdict(self.bits.per_character()),
                **{
                    f"{part}_per_character": getattr(self.bits, part).sum()
                    / self.bits.characters.sum()
                    for part in ("tokens", "unread", "restoring")
                },
            }
        return {**values, "best_layer": self.best_layer}


def ask(
    contestant: Contestant, questions: Questions, device: torch.device, progress: ReportProgress
) -> ModelScore:
    """Load a model and ask it the questions.

    Raises:
        InputError: if it cannot be loaded.
    """
    heads = _heads(contestant)
    # A head that the folder lacks is random, and is not asked.
    model = BertForPreTraining.from_pretrained(contestant.folder, new_head=True).to(device)
    tokenizer = contestant.tokenizer
    counted = restored = follows = None
    if "mlm_head" in heads:
        counted = _bits(model, tokenizer, questions, progress)
        restored = _restored(model, tokenizer, questions.hidden, progress)
    config = contestant.config
    can_tell = config.type_vocab_size > 1 and has_learned_next_sentence(config)
    if "nsp_head" in heads and can_tell and questions.pairs:
        follows = _follows(model, tokenizer, questions.pairs, progress)
    pieces_per_word, unknown_words = _pieces(tokenizer, questions.sample.sentences)
    return ModelScore(
        model=contestant.name,
        num_parameters=sum(parameter.numel() for parameter in model.bert.parameters()),
        vocab_size=contestant.config.vocab_size,
        bits=counted,
        loses=lost_by(tokenizer),
        pieces_per_word=pieces_per_word,
        unknown_words=unknown_words,
        masked_words=restored,
        displaced_words=_displaced(model, tokenizer, questions.displaced, progress),
        next_sentence=follows,
        nearest_sentence=_nearest(model, tokenizer, questions.sample, progress),
    )


def _heads(contestant: Contestant) -> set[str]:
    """Return the heads whose weights a folder holds, under our names."""
    weights = read_weights(contestant.folder)
    ours = to_ours(contestant.folder, contestant.config, weights, prefix="bert.")
    return {name.partition(".")[0] for name in ours}


def _bits(
    model: BertForPreTraining, tokenizer: Tokenizer, questions: Questions, progress: ReportProgress
) -> SentenceBits:
    parts = []
    for part in sentence_bits(model, tokenizer, questions.few, questions.characters):
        parts.append(part)
        progress("bits per character", len(part[0]))
    return joined_bits(parts)


def _restored(
    model: BertForPreTraining, tokenizer: Tokenizer, hidden: HiddenWords, progress: ReportProgress
) -> Estimate:
    found: list[bool] = []
    for indices, restored in restored_by_model(model, tokenizer, hidden):
        found += [is_right for sentence in restored for is_right in sentence]
        progress("masked words", len(indices))
    return proportion(found)


def _follows(
    model: BertForPreTraining, tokenizer: Tokenizer, pairs: SentencePairs, progress: ReportProgress
) -> Estimate:
    is_right: list[bool] = []
    for kind, follow in ((pairs.following, True), (pairs.random, False)):
        by_length = sorted(kind, key=lambda pair: len(pair[0]) + len(pair[1]))
        for some in batches(by_length):
            verdicts = next_sentences(model, tokenizer, some)
            is_right += [(verdict.is_next > verdict.random) == follow for verdict in verdicts]
            progress("sentence pairs", len(some))
    return proportion(is_right)


def _pieces(tokenizer: Tokenizer, sentences: Sequence[str]) -> tuple[float, float]:
    """Return pieces per word, and the share of words with an [UNK] among their pieces."""
    num_words = num_pieces = num_unknown = 0
    unknown = special_ids(tokenizer).unk
    encodings = encode_with_offsets(tokenizer, sentences)
    for encoding, spans in zip(encodings, word_spans(sentences), strict=True):
        num_words += len(spans)
        num_pieces += len(encoding.ids)
        num_unknown += sum(
            any(encoding.ids[token] == unknown for token in tokens)
            for tokens in tokens_of_words(encoding.offsets, spans)
        )
    return num_pieces / num_words, num_unknown / num_words


def _displaced(
    model: BertForPreTraining,
    tokenizer: Tokenizer,
    displaced: DisplacedWords,
    progress: ReportProgress,
) -> list[Estimate]:
    """Train a probe of each layer on one half of the sentences, and test it on the other."""
    states = []
    for found in word_states(model, tokenizer, displaced.sentences, displaced.spans):
        states.append(found)
        progress("words out of place", 1)
    half = len(states) // 2
    labels = np.array([is_moved for sentence in displaced.displaced for is_moved in sentence])
    num_train = sum(map(len, displaced.displaced[:half]))
    right = probe_layers(np.concatenate(states), labels, num_train=num_train)
    return [proportion(flags) for flags in right]


def _nearest(
    model: BertForPreTraining, tokenizer: Tokenizer, sample: TextSample, progress: ReportProgress
) -> Estimate | None:
    if not sample.followers:
        return None
    vectors = []
    for some in batches(sample.sentences + sample.followers):
        vectors.append(embed(model, tokenizer, some))
        progress("nearest sentences", len(some))
    joined = np.concatenate(vectors)
    half = len(sample.sentences)
    return proportion(nearer_than_others(joined[:half], joined[half:]))

"""The questions that `score` asks every model, and the answers possible without a model.

Letters: N sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.inference.bits_per_character import (
    character_count_bits,
    compressed_bits,
    count_characters,
    uniform_bits,
)
from bert_scratch.inference.displaced_words import DisplacedWords, displace_words
from bert_scratch.inference.estimate import Estimate, proportion
from bert_scratch.inference.inputs import fits_row
from bert_scratch.inference.masked_words import HiddenWords, hide_words, restored_by_counts
from bert_scratch.inference.sentence_pairs import (
    SentencePairs,
    nearer_than_others,
    pair_sentences,
    told_by_shared_words,
    word_weights,
)
from bert_scratch.inference.text_sample import MIN_SENTENCES, TextSample, sample_sentences
from bert_scratch.model.folder import read_config
from bert_scratch.model.weight_files import find_folder

_SENTENCES_PER_SLOW_ONE = 4
"""Bits per character need a row for each token, so they are measured on this part of sentences."""


@dataclass(frozen=True)
class Contestant:
    """A model before its weights are loaded."""

    name: str
    """The name as the user gave it."""
    folder: Path
    config: BertConfig
    tokenizer: Tokenizer

    @classmethod
    def find(cls, name: str) -> Contestant:
        """Find a model folder or hub id.

        Raises:
            InputError: if there is none, or it has no tokenizer.
        """
        folder = find_folder(name)
        return cls(name, folder, read_config(folder), load_tokenizer(folder))

    def fits(self, *texts: str) -> bool:
        """Tell whether a text, or a pair, is no longer than a row.

        Raises:
            InputError: if the tokenizer is not the model's.
        """
        return fits_row(self.tokenizer, self.config, *texts, what=f"--model {self.name}: a text")


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What every model is asked."""

    sample: TextSample
    characters: Mapping[str, int]
    """How often each character occurs in the text."""
    few: list[str]
    """The sentences whose bits are counted."""
    hidden: HiddenWords
    displaced: DisplacedWords
    pairs: SentencePairs | None
    """Sentence pairs; None if the text has too few consecutive sentences."""

    @property
    def all_sentences(self) -> list[str]:
        """The sentences and those that follow them."""
        return self.sample.sentences + self.sample.followers


def make_questions(
    documents: Sequence[Sequence[str]],
    contestants: Sequence[Contestant],
    *,
    num_sentences: int,
    seed: int,
    source: str = "--text",
) -> Questions:
    """Draw sentences that every model can take; hide words, displace words and make pairs.

    Args:
        documents: sentences of each, from `read_text`.
        contestants: at least one.
        num_sentences: N.
        seed: equal seeds, texts and models give equal questions.
        source: the flag and file that gave the documents, for errors.

    Raises:
        InputError: if the text has too few sentences or no word in them, or a tokenizer is not its
            model's.
    """
    sample = sample_sentences(
        documents,
        num_sentences=num_sentences,
        seed=seed,
        fits=lambda text: all(contestant.fits(text) for contestant in contestants),
        source=source,
    )
    hidden = hide_words(sample.sentences, seed=seed)
    if not hidden.words():
        raise InputError(
            f"{source}: no token of its sentences can be masked, because they hold no word or "
            f"number, only marks and symbols; give a text in the models' language"
        )
    for_pairs = [c for c in contestants if c.config.type_vocab_size > 1]
    pairs = pair_sentences(sample, fits=lambda a, b: all(c.fits(a, b) for c in for_pairs))
    return Questions(
        sample=sample,
        characters=count_characters([text for document in documents for text in document]),
        few=sample.sentences[: max(MIN_SENTENCES, num_sentences // _SENTENCES_PER_SLOW_ONE)],
        hidden=hidden,
        displaced=displace_words(sample.sentences + sample.followers, seed=seed),
        pairs=pairs if len(pairs.following) >= MIN_SENTENCES else None,
    )


@dataclass(frozen=True, kw_only=True)
class References:
    """Results on the same questions without a model."""

    uniform_bits: float
    """Bits per character if drawn uniformly from the alphabet."""
    character_count_bits: float
    """Bits per character by counts of characters in the rest of the text."""
    compressed_bits: float
    """Bits per character of xz that has read the rest of the text."""
    most_frequent_word: Estimate
    """Share of hidden words that are the commonest word."""
    two_neighbours: Estimate
    """Share of hidden words guessed from counts of words between two neighbours."""
    next_sentence: Estimate | None
    """Share of pairs classified correctly by how many words they share."""
    nearest_sentence: Estimate | None
    """Share of other sentences farther than the next one, by shared words."""


def reference_answers(questions: Questions) -> References:
    """Answer the questions by counting."""
    sample, few = questions.sample, questions.few
    frequent, neighbours = restored_by_counts(questions.hidden, sample.rest)
    pairs = nearest = None
    if questions.pairs is not None:
        pairs = proportion(told_by_shared_words(questions.pairs))
    if sample.followers:
        weights = word_weights(questions.all_sentences).toarray()
        half = len(sample.sentences)
        nearest = proportion(nearer_than_others(weights[:half], weights[half:]))
    return References(
        uniform_bits=uniform_bits(questions.characters),
        character_count_bits=character_count_bits(
            few, count_characters(sample.rest), len(questions.characters)
        ),
        compressed_bits=compressed_bits(few, sample.rest),
        most_frequent_word=proportion(frequent),
        two_neighbours=proportion(neighbours),
        next_sentence=pairs,
        nearest_sentence=nearest,
    )

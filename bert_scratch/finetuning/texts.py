"""Turn texts and pairs into rows, shared by the tasks that give a text one answer."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.records import STANDARD_INPUT
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.finetuning.labelled_rows import LabelledText, read_labelled_texts
from bert_scratch.finetuning.rows import Row, TokenSequence, token_sequence
from bert_scratch.finetuning.task import AnswerT, Task
from bert_scratch.finetuning.task_settings import had_pairs
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.task_heads import BertForSequenceClassification


def encode_text(
    tokenizer: Tokenizer, texts: Sequence[str], *, max_seq_length: int, long_text: str
) -> list[list[TokenSequence]]:
    """Encode single texts, handling long ones as requested.

    Args:
        tokenizer: the model's tokenizer.
        texts: texts of any length.
        max_seq_length: tokens of a sequence, special tokens included.
        long_text: truncate; head-tail: keep the first quarter and the end; window: several
            sequences, each beginning in the middle of the previous one, the last ending with
            the text.

    Returns:
        The sequences of each text.

    Source:
        Sun et al. 2019, "How to fine-tune BERT for text classification?", section 5.3.1.
    """
    special, limit = special_ids(tokenizer), max_seq_length - 2
    sequences = []
    for ids in TextEncoder(tokenizer).encode(texts):
        if long_text == "window":
            last = max(0, len(ids) - limit)
            starts = [*range(0, last, max(1, limit // 2)), last]
            pieces = [ids[start : start + limit] for start in starts]
        elif long_text == "head-tail" and len(ids) > limit:
            head = limit // 4
            pieces = [np.concatenate([ids[:head], ids[head - limit :]])]
        else:
            pieces = [ids[:limit]]
        sequences.append([token_sequence(piece, None, special) for piece in pieces])
    return sequences


def encode_pairs(
    tokenizer: Tokenizer, texts: Sequence[str], pairs: Sequence[str], *, max_seq_length: int
) -> list[TokenSequence]:
    """Encode pairs, cutting the longer text first.

    Args:
        tokenizer: the model's tokenizer.
        texts: the first text of each pair.
        pairs: the second text of each pair.
        max_seq_length: tokens of a sequence, special tokens included.

    Source:
        tokenizers' truncation strategy `longest_first`.
    """
    encoder, special = TextEncoder(tokenizer), special_ids(tokenizer)
    sequences = []
    for ids, other in zip(encoder.encode(texts), encoder.encode(pairs), strict=True):
        kept, kept_other = longest_first(len(ids), len(other), max_seq_length - 3)
        sequences.append(token_sequence(ids[:kept], other[:kept_other], special))
    return sequences


def longest_first(first: int, second: int, limit: int) -> tuple[int, int]:
    """Return how many tokens each of two texts keeps; the shorter stays whole if possible.

    Args:
        first: tokens of the first text.
        second: tokens of the second.
        limit: most tokens of both together.
    """
    if first + second <= limit:
        return first, second
    shorter = min(first, second)
    kept = shorter if 2 * shorter <= limit else limit // 2
    return (kept, limit - kept) if first <= second else (limit - kept, kept)


class TextTask(Task[LabelledText, AnswerT]):
    """A task that gives each text, or pair, one answer."""

    model_class: ClassVar[type[PretrainedModel]] = BertForSequenceClassification

    def read(self, file: str, *, labels_needed: bool) -> list[LabelledText]:
        """Read texts and labels; see `read_labelled_texts`.

        Raises:
            InputError: also if the file has pairs but the model learned single texts, or the
                reverse.
        """
        examples = read_labelled_texts(
            file,
            self.settings,
            labels_needed=labels_needed,
            columns_asked=self.columns_asked,
        )
        are_pairs, needed = _are_pairs(examples), had_pairs(self.settings)
        name = "standard input" if file == STANDARD_INPUT else file
        if needed and not are_pairs:
            raise InputError(
                f"{name}: has single texts, but the model is trained on pairs; name the column of "
                f"the second text with --text-pair-column"
            )
        if are_pairs and needed is False:
            raise InputError(
                f"{name}: has pairs of texts, but the model is trained on single texts; name the "
                f"column of the text with --text-column"
            )
        return examples

    def learn(self, examples: Sequence[LabelledText]) -> None:
        """Record whether the training examples are pairs; all others must be alike."""
        settings = self.settings.for_prediction()
        self.settings = settings.replace(has_pairs=_are_pairs(examples))

    def is_labelled(self, example: LabelledText) -> bool:
        """Tell whether an example came with a label."""
        return example.label is not None

    def unlabelled(self, example: LabelledText) -> LabelledText:
        """Return an example without its label."""
        return dataclasses.replace(example, label=None)

    @abstractmethod
    def target(self, example: LabelledText) -> int | float | list[float]:
        """Return the training target of a labelled example.

        Raises:
            InputError: naming the example's place, if the label is not one of the task's.
        """

    def encode(self, examples: Sequence[LabelledText], tokenizer: Tokenizer) -> list[Row]:
        """Make one row for each example, or several for a long text that is read in windows."""
        sequences = self._sequences(examples, tokenizer)
        return [
            Row(
                sequences=(sequence,),
                example=number,
                place=example.place,
                label=self.target(example) if self.is_labelled(example) else None,
            )
            for number, example in enumerate(examples)
            for sequence in sequences[number]
        ]

    def _sequences(
        self, examples: Sequence[LabelledText], tokenizer: Tokenizer
    ) -> list[list[TokenSequence]]:
        length, long_text = self.settings.row_length, self.settings.long_text
        texts = [example.text for example in examples]
        pairs = [example.text_pair for example in examples if example.text_pair is not None]
        if not pairs:
            return encode_text(tokenizer, texts, max_seq_length=length, long_text=long_text)
        if long_text != "truncate":
            raise InputError(f"--long-text {long_text} is for single texts, not for pairs")
        sequences = encode_pairs(tokenizer, texts, pairs, max_seq_length=length)
        return [[sequence] for sequence in sequences]


def _are_pairs(examples: Sequence[LabelledText]) -> bool:
    """Tell whether each text has a second one; in a file, all have one or none has."""
    return examples[0].text_pair is not None

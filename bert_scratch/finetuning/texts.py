"""Texts and pairs to rows: what the tasks that give a text one answer share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from tokenizers import Tokenizer

from bert_scratch.data.encoding import TextEncoder
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.finetuning.labelled_rows import LabelledText, read_labelled_texts
from bert_scratch.finetuning.rows import Row, TokenSequence, token_sequence
from bert_scratch.finetuning.task import AnswerT, Task
from bert_scratch.model.task_heads import BertForSequenceClassification


def encode_pairs(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str | None],
    *,
    max_seq_length: int,
) -> list[TokenSequence]:
    """Encode texts, or pairs, cutting the longer text of a pair first.

    Args:
        tokenizer: the model's.
        texts: the first of each pair.
        pairs: the second of each, None for a single text.
        max_seq_length: tokens of a sequence, special tokens included.

    Source:
        tokenizers' truncation strategy `longest_first`.
    """
    encoder, special = TextEncoder(tokenizer), special_ids(tokenizer)
    first = encoder.encode(texts)
    second = iter(encoder.encode([pair for pair in pairs if pair is not None]))
    sequences = []
    for ids, pair in zip(first, pairs, strict=True):
        if pair is None:
            sequences.append(token_sequence(ids[: max_seq_length - 2], None, special))
            continue
        other = next(second)
        kept, kept_other = longest_first(len(ids), len(other), max_seq_length - 3)
        sequences.append(token_sequence(ids[:kept], other[:kept_other], special))
    return sequences


def longest_first(first: int, second: int, limit: int) -> tuple[int, int]:
    """Return how many tokens each of two texts keeps: the shorter one whole while it can be.

    Args:
        first: tokens of the first text.
        second: tokens of the second.
        limit: of both together.
    """
    if first + second <= limit:
        return first, second
    shorter = min(first, second)
    kept = shorter if 2 * shorter <= limit else limit // 2
    return (kept, limit - kept) if first <= second else (limit - kept, kept)


class TextTask(Task[LabelledText, AnswerT]):
    """A task that gives each text, or pair, one answer."""

    model_class = BertForSequenceClassification

    def read(self, file: str, *, labels_needed: bool) -> list[LabelledText]:
        """Read texts and labels; see `read_labelled_texts`."""
        return read_labelled_texts(file, self.settings, labels_needed=labels_needed)

    def is_labelled(self, example: LabelledText) -> bool:
        """Tell whether an example came with a label."""
        return example.label is not None

    @abstractmethod
    def target(self, example: LabelledText) -> int | float | list[float]:
        """Return what the model should say about a labelled example.

        Raises:
            InputError: naming its place, if the label is not one of the task's.
        """

    def encode(self, examples: Sequence[LabelledText], tokenizer: Tokenizer) -> list[Row]:
        """Make one row of each example."""
        sequences = encode_pairs(
            tokenizer,
            [example.text for example in examples],
            [example.text_pair for example in examples],
            max_seq_length=self.settings.max_seq_length,
        )
        return [
            Row(
                sequences=(sequence,),
                example=number,
                place=example.place,
                label=self.target(example) if self.is_labelled(example) else None,
            )
            for number, (example, sequence) in enumerate(zip(examples, sequences, strict=True))
        ]

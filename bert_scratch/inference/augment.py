"""Augment labelled texts by replacing words with predictions of a masked language model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Encoding, Tokenizer
from tqdm import tqdm

from bert_scratch import durable
from bert_scratch.config import InputError, Settings, check_range
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.inputs import (
    EncodedText,
    MaskedLM,
    ModelOptions,
    answering,
    batches,
    check_known,
    each_text,
    logits_at,
)
from bert_scratch.inference.labelled_files import LABELLED_KINDS, read_labelled_file, row_writer
from bert_scratch.inference.pooling import group_pieces
from bert_scratch.inference.sampling import draw, drawable_tokens
from bert_scratch.model.heads import BertForMaskedLM
from bert_scratch.output_places import make_place_for

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(Settings):
    """How words are replaced."""

    num_copies: int = 1
    """Changed copies of each example."""
    replace_fraction: float = 0.15
    """Share of a text's words to replace, at least one word."""
    top_k: int = 10
    """Words to choose from in each place."""
    temperature: float = 1.0
    """Lower keeps to the most probable words, higher is wilder."""
    seed: int = 0
    """Another seed chooses other words."""

    def __post_init__(self) -> None:
        """Check each value.

        Raises:
            InputError: naming the option.
        """
        check_range("--num-copies", self.num_copies, at_least=1)
        check_range("--replace-fraction", self.replace_fraction, above=0, at_most=1)
        check_range("--top-k", self.top_k, at_least=1)
        check_range("--temperature", self.temperature, above=0)
        check_range("--seed", self.seed, at_least=0, below=2**63)


class Augmenter:
    """Replaces words of texts by a model's predictions in their place, never by themselves.

    Source:
        Kobayashi 2018, "Contextual Augmentation", and Wu et al. 2019, "Conditional BERT
        Contextual Augmentation", without the condition on the label: a word that carries the
        label may change, so keep replace_fraction small and look at some copies.
    """

    def __init__(self, model: MaskedLM, tokenizer: Tokenizer, options: AugmentOptions) -> None:
        """Seed the random numbers.

        Args:
            model: on any device; left unchanged.
            tokenizer: the model's.
            options: how words are replaced.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._special = special_ids(tokenizer)
        self._generator = torch.Generator().manual_seed(options.seed)
        self._drawable = drawable_tokens(
            tokenizer, model.config.vocab_size, lambda token: token.isalnum()
        )

    def copies(self, texts: Sequence[str]) -> list[list[str]]:
        """Return num_copies changed copies of each text; none of a text without words.

        The words of a copy are predicted in one pass, each from the words that stay. Words
        beyond the longest row of the model stay.

        Raises:
            InputError: if a token has no embedding, or texts is not a list of strings.
        """
        texts = list(each_text(texts))
        plans = [
            (number, plan)
            for number, (text, encoding) in enumerate(
                zip(texts, encode_with_offsets(self._tokenizer, texts), strict=True)
            )
            for plan in self._plans(text, encoding)
        ]
        found: list[list[str]] = [[] for _ in texts]
        for group in batches(plans, _TEXTS_AT_ONCE):
            words = iter(self._predicted([plan for _, plan in group]))
            for number, plan in group:
                pieces, kept = [], 0
                for start, end in plan.spans:
                    pieces += [texts[number][kept:start], next(words)]
                    kept = end
                found[number].append("".join([*pieces, texts[number][kept:]]))
        return found

    def _plans(self, text: str, encoding: Encoding) -> Iterator[_Plan]:
        """Yield for each copy of a text which words it replaces."""
        if not encoding.ids:
            return
        room = self._model.config.max_position_embeddings - 2
        check_known(max(encoding.ids), self._model.config)
        firsts, spans = group_pieces(encoding.word_ids, encoding.offsets)
        ends = [*firsts[1:].tolist(), len(encoding.ids)]
        words = [
            (first, end, span)
            for first, end, span in zip(firsts.tolist(), ends, spans, strict=True)
            if end <= room and text[slice(*span)].isalnum()
        ]
        if not words:
            return
        count = max(1, round(self._options.replace_fraction * len(words)))
        for _ in range(self._options.num_copies):
            order = torch.randperm(len(words), generator=self._generator)[:count]
            yield self._plan(encoding.ids[:room], [words[i] for i in sorted(order.tolist())])

    def _plan(
        self, token_ids: list[int], words: Sequence[tuple[int, int, tuple[int, int]]]
    ) -> _Plan:
        ids, columns, before, end = [self._special.cls], [], [], 0
        for first, own_end, _ in words:
            ids += token_ids[end:first]
            columns.append(len(ids))
            before.append(token_ids[first] if own_end == first + 1 else self._special.unk)
            ids.append(self._special.mask)
            end = own_end
        ids += [*token_ids[end:], self._special.sep]
        return _Plan(ids, columns, before, [span for _, _, span in words])

    def _predicted(self, plans: Sequence[_Plan]) -> list[str]:
        """Return the new words of all plans, concatenated."""
        rows = [EncodedText(ids=p.ids, token_type_ids=[0] * len(p.ids)) for p in plans]
        with answering(self._model) as device:
            columns = [plan.columns for plan in plans]
            pad_id = self._special.pad
            logits = logits_at(self._model, rows, columns, pad_id=pad_id, device=device)
        drawable = self._drawable.repeat(len(logits), 1)
        before = torch.tensor([token for plan in plans for token in plan.before])
        drawable[torch.arange(len(logits)), before] = False
        options = self._options
        tokens = draw(
            logits,
            drawable,
            top_k=options.top_k,
            temperature=options.temperature,
            generator=self._generator,
        )
        return [str(self._tokenizer.id_to_token(token)) for token in tokens.tolist()]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A planned copy: a row with a [MASK] for each word to replace."""

    ids: list[int]
    columns: list[int]
    before: list[int]
    """The original token of each word; [UNK], which is never drawn, if it has several pieces."""
    spans: list[tuple[int, int]]
    """The position of each word in the text."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(ModelOptions, AugmentOptions):
    """Enlarge a labelled file: each row, then copies with some words replaced, labels kept."""

    input: str
    """Labelled examples: .tsv or .csv with a line of column names, or .jsonl."""
    output: str
    """The larger file, of the same kind."""
    text_column: str = "text"
    """The column, or key, that holds the text to change."""

    def __post_init__(self) -> None:
        """Check what does not depend on the model.

        Raises:
            InputError: naming the flag.
        """
        ModelOptions.__post_init__(self)
        AugmentOptions.__post_init__(self)
        kinds = [Path(path).suffix for path in (self.input, self.output)]
        if kinds[0] not in LABELLED_KINDS or kinds[0] != kinds[1]:
            raise InputError(
                f"--input and --output must both end in one of {', '.join(LABELLED_KINDS)}; got "
                f"{self.input} and {self.output}"
            )
        if Path(self.input).resolve() == Path(self.output).resolve():
            raise InputError(
                f"--output {self.output}: is the file of --input, which would be overwritten; "
                f"name another file"
            )


def run_augment(config: AugmentConfig) -> None:
    """Write the rows and their copies, with a progress bar on a terminal.

    Raises:
        InputError: if the model or the file cannot be used, or the file has no examples.
    """
    output = Path(config.output)
    make_place_for(output)
    model, tokenizer = config.load(BertForMaskedLM)
    augmenter = Augmenter(model, tokenizer, config)
    table, column = read_labelled_file(config.input, config.text_column), config.text_column
    num_copies = 0
    with (
        durable.durable_path(output) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as written,
        tqdm(total=len(table.records), unit=" rows", disable=not sys.stderr.isatty()) as bar,
    ):
        write = row_writer(output.suffix, table.columns, written)
        for records in batches(table.records, _TEXTS_AT_ONCE):
            copies = augmenter.copies([record.cells[column] for record in records])
            for record, own in zip(records, copies, strict=True):
                write(record.cells)
                for text in own:
                    write(record.cells | {column: text})
                num_copies += len(own)
                bar.update()
    print(f"{len(table.records):,} rows and {num_copies:,} changed copies: {output}")

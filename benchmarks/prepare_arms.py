"""The arms of `prepare.py`: ways from a text file to tokens. Each imports only what it needs.

- ours: `prepare`, that is sentences, held-out documents, ids, document and sentence ends, counts,
  checksums, written to disk; with the vocabulary given, or learned first.
- tokenizers: the same lines through `encode_batch_fast`, nothing split, nothing kept; with the
  vocabulary given, or learned first by its own trainer.
- datasets, run_mlm: load_dataset("text"), map(tokenizer), map(group_texts), as in transformers'
  example: no sentences, no documents, rows of 128 tokens.
- datasets, same work: documents, the same sentence split, ids of each sentence, mapped to disk.
- google: create_pretraining_data.py transcribed (google_preparation.py), on the first
  --google-megabytes, with its default of 10 passes (each with its own draws) and with one pass;
  sentences are split beforehand and nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

TEXT, SENTENCES, TOKENIZER = "text.txt", "sentences.txt", "tokenizer"
BATCH_LINES = 1_000
ROW_TOKENS = 128

Arm = Callable[[Path, argparse.Namespace], Callable[[], int]]
"""Imports what it needs and returns the work, a function that returns the number of tokens."""


def ours(folder: Path, options: argparse.Namespace, **vocabulary: Any) -> Callable[[], int]:
    from bert_scratch.pretraining.corpus_settings import CorpusSettings
    from bert_scratch.pretraining.prepare import prepare

    settings = CorpusSettings(
        corpus=(str(folder / TEXT),),
        documents="blank-lines",
        sentences=options.sentences,
        num_processes=1,
        **vocabulary,
    )

    def work() -> int:
        store = prepare(settings, folder / "store")
        shards = chain(store.shards("train"), store.shards("eval"))
        return sum(shard.num_tokens for shard in shards)

    return work


def ours_given(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    return ours(folder, options, tokenizer=str(folder / TOKENIZER))


def ours_learned(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    return ours(
        folder,
        options,
        vocab_size=options.vocab_size,
        lowercase=options.lowercase,
        strip_accents=options.lowercase,
    )


def tokenizers_given(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    from bert_scratch.data.wordpiece import load_tokenizer

    tokenizer = load_tokenizer(folder / TOKENIZER)
    return lambda: _encode_lines(tokenizer, folder / TEXT)


def tokenizers_learned(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    def work() -> int:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=options.lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(
            vocab_size=options.vocab_size,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines_of(folder / TEXT), trainer)
        return _encode_lines(tokenizer, folder / TEXT)

    return work


def lines_of(path: Path) -> Iterator[str]:
    """Yield the stripped lines of a file."""
    with path.open(encoding="utf-8") as file:
        yield from (line.strip() for line in file)


def _encode_lines(tokenizer: Any, path: Path) -> int:
    lines, num_tokens = lines_of(path), 0
    while batch := list(islice(lines, BATCH_LINES)):
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        num_tokens += sum(len(encoding.ids) for encoding in encodings)
    return num_tokens


def datasets_run_mlm(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)

    def tokenize(examples: dict[str, list[str]]) -> dict[str, Any]:
        return dict(tokenizer(examples["text"], return_special_tokens_mask=True))

    def group_texts(examples: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {name: list(chain(*rows)) for name, rows in examples.items()}
        total = len(joined["input_ids"]) // ROW_TOKENS * ROW_TOKENS
        return {
            name: [tokens[start : start + ROW_TOKENS] for start in range(0, total, ROW_TOKENS)]
            for name, tokens in joined.items()
        }

    def work() -> int:
        raw = datasets.load_dataset(
            "text", data_files=str(folder / TEXT), split="train", cache_dir=str(folder / "cache")
        )
        rows = raw.map(tokenize, batched=True, remove_columns=["text"])
        return ROW_TOKENS * len(rows.map(group_texts, batched=True))

    return work


def datasets_same_work(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    import datasets
    from pyarrow import compute
    from transformers import AutoTokenizer

    from bert_scratch.data.sentences import split_document

    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)

    def split(examples: dict[str, list[str]]) -> dict[str, list[list[str]]]:
        lines = ([line.strip() for line in text.split("\n")] for text in examples["text"])
        return {
            "sentences": [split_document(list(filter(None, d)), options.sentences) for d in lines]
        }

    def tokenize(examples: dict[str, list[list[str]]]) -> dict[str, list[list[list[int]]]]:
        flat = tokenizer(
            list(chain(*examples["sentences"])),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        ids = iter(flat["input_ids"])
        return {"input_ids": [[next(ids) for _ in d] for d in examples["sentences"]]}

    def work() -> int:
        raw = datasets.load_dataset(
            "text",
            data_files=str(folder / TEXT),
            split="train",
            sample_by="paragraph",
            cache_dir=str(folder / "cache"),
        )
        documents = raw.map(split, batched=True, batch_size=100, remove_columns=["text"])
        stored = documents.map(tokenize, batched=True, batch_size=100, remove_columns=["sentences"])
        lengths = compute.list_value_length(compute.list_flatten(stored.data["input_ids"]))
        return int(compute.sum(lengths).as_py())

    return work


def google(folder: Path, options: argparse.Namespace, dupe_factor: int) -> Callable[[], int]:
    from google_preparation import FullTokenizer, create_instances

    tokenizer = FullTokenizer(
        (folder / TOKENIZER / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1],
        do_lower_case=options.lowercase,
    )

    def work() -> int:
        instances = create_instances(folder / SENTENCES, tokenizer, dupe_factor=dupe_factor)
        return sum(len(instance.tokens) - 3 for instance in instances)

    return work


def google_ten_passes(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    return google(folder, options, 10)


def google_one_pass(folder: Path, options: argparse.Namespace) -> Callable[[], int]:
    return google(folder, options, 1)


ARMS: dict[str, tuple[str, str, Arm]] = {
    "ours": ("ours", "given", ours_given),
    "ours-learned": ("ours", "learned", ours_learned),
    "tokenizers": ("tokenizers alone", "given", tokenizers_given),
    "tokenizers-learned": ("tokenizers alone", "learned", tokenizers_learned),
    "run-mlm": ("datasets, run_mlm", "given", datasets_run_mlm),
    "same-work": ("datasets, same work", "given", datasets_same_work),
    "google": ("google, 10 passes", "given", google_ten_passes),
    "google-one-pass": ("google, 1 pass", "given", google_one_pass),
}

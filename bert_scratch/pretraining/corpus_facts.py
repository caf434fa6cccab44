"""Facts of a prepared corpus, and the reference values that make a loss interpretable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bert_scratch.config import Settings, counted
from bert_scratch.data.alphabet import ALPHABET_COVERAGE
from bert_scratch.data.mixture import BLOCK_PLACES, mixture_components
from bert_scratch.data.segmenter import ideograph_ids
from bert_scratch.data.shard import SPLITS
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import load_tokenizer, special_ids

PAIR_CHANCE_LOSS = math.log(2.0)
"""Loss of a next-sentence head that knows nothing, in nats."""
_MAX_SHOWN_FILES = 10


MAX_UNKNOWN_SHARE = 0.02
"""A larger share of [UNK] gives a warning: what it stands for cannot be learned."""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts(Settings):
    """What a run knows about its corpus; written to `corpus.json`."""

    vocab_size: int
    train_documents: int
    train_sentences: int
    train_tokens: int
    eval_documents: int
    eval_sentences: int
    eval_tokens: int
    unknown_share: float
    """Share of [UNK] among the train tokens."""
    uniform_loss: float
    """ln V: the masked-token loss of a model that knows nothing, in nats."""
    unigram_entropy: float
    """Entropy of the train tokens' frequencies, in nats."""
    ideograph_share: float = 0.0
    """Share of single ideographs among the train tokens; 0 in files of older runs."""

    @property
    def pairs_possible(self) -> bool:
        """Whether both parts have enough documents for next-sentence pairs."""
        return (
            self.train_documents >= 2
            and self.eval_documents >= 2
            and self.train_sentences > self.train_documents
            and self.eval_sentences > self.eval_documents
        )


def corpus_facts(store: TokenStore, tokenizer: Tokenizer) -> CorpusFacts:
    """Return the facts of a prepared corpus, whose tokenizer is given."""
    train, held_out = store.shards("train"), store.shards("eval")
    counts = store.token_counts.astype(np.float64)
    share = counts / max(1.0, counts.sum())
    seen = share[share > 0]
    return CorpusFacts(
        vocab_size=store.vocab_size,
        train_documents=sum(shard.num_documents for shard in train),
        train_sentences=sum(shard.num_sentences for shard in train),
        train_tokens=sum(shard.num_tokens for shard in train),
        eval_documents=sum(shard.num_documents for shard in held_out),
        eval_sentences=sum(shard.num_sentences for shard in held_out),
        eval_tokens=sum(shard.num_tokens for shard in held_out),
        unknown_share=float(share[special_ids(tokenizer).unk]),
        uniform_loss=math.log(store.vocab_size),
        unigram_entropy=float(-(seen * np.log(seen)).sum()),
        ideograph_share=float(share[ideograph_ids(tokenizer)].sum()),
    )


def describe_store(store: TokenStore) -> list[str]:
    """Describe a prepared corpus in a few lines to print."""
    facts = corpus_facts(store, load_tokenizer(store.folder / "tokenizer"))
    shards = [shard[split] for shard in store.manifest["shards"] for split in SPLITS]
    single = sum(shard["one_sentence_documents"] for shard in shards)
    empty = sum(shard["empty_documents"] for shard in shards)
    return [
        f"train      {counted(facts.train_documents, 'document')}, "
        f"{counted(facts.train_sentences, 'sentence')}, {counted(facts.train_tokens, 'token')}",
        f"held out   {counted(facts.eval_documents, 'document')}, "
        f"{counted(facts.eval_sentences, 'sentence')}, {counted(facts.eval_tokens, 'token')}",
        f"of these   {counted(single, 'document')} of one sentence; {empty:,} more had no token",
        f"tokens     vocabulary {facts.vocab_size:,}, [UNK] {facts.unknown_share:.3%}, unigram "
        f"entropy {abs(facts.unigram_entropy):.3f} nats",
        *_describe_mixture(store),
        *_warn_of_unknown(facts, store.manifest["vocabulary"]),
        *_describe_replaced(store),
    ]


def _describe_mixture(store: TokenStore) -> list[str]:
    if not store.manifest.get("mixture"):
        return []
    return [
        f"mixture    {part.path}: {part.places / BLOCK_PLACES:.1%} of the examples, "
        f"{part.text_share:.1%} of the text"
        for part in mixture_components(store.manifest)
    ]


def _warn_of_unknown(facts: CorpusFacts, learned: Mapping[str, Any] | None) -> list[str]:
    """Return a warning if much is [UNK], with what fixes it.

    Args:
        facts: of the corpus.
        learned: the manifest's report on a learned vocabulary; None for a given one.
    """
    if facts.unknown_share <= MAX_UNKNOWN_SHARE:
        return []
    if learned is None:
        mend = "leave --tokenizer out"
    elif learned.get("cut_share", 0.0) > 1 - ALPHABET_COVERAGE:
        mend = "it has no room for the text's characters, raise --vocab-size"
    elif learned["vocab_size"] < learned["requested_vocab_size"]:
        mend = "the text cannot fill a larger one, give more text"
    else:
        mend = "raise --vocab-size"
    return [
        f"warning    [UNK] stands for {facts.unknown_share:.1%} of the text, above "
        f"{MAX_UNKNOWN_SHARE:.0%}: the vocabulary does not fit it; {mend}"
    ]


def _describe_replaced(store: TokenStore) -> list[str]:
    """Describe how many characters stand for undecodable bytes, in total and by file."""
    replaced: Counter[str] = Counter()
    for part, shard in zip(store.manifest["slices"], store.manifest["shards"], strict=True):
        for (file, _, _), count in zip(part["files"], shard["replacement_characters"], strict=True):
            replaced[file] += count
    worst = [(file, count) for file, count in replaced.most_common(_MAX_SHOWN_FILES) if count]
    if not worst:
        return []
    num_more = sum(count > 0 for count in replaced.values()) - len(worst)
    more = f", and {num_more:,} more files" if num_more else ""
    files = ", ".join(f"{file} {count:,}" for file, count in worst)
    return [
        f"characters {replaced.total():,} are U+FFFD, which stands for undecodable bytes: "
        f"{files}{more}"
    ]


def unigram_loss(train_counts: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
    """Return the cross-entropy, in nats, of the train unigram counts (+0.5) on masked targets.

    This is the loss of a model that has learned only word frequencies, on exactly the positions
    that the evaluation masks.

    Args:
        train_counts: [V] how often each token occurs in the train text.
        targets: [N] ids of the masked held-out tokens.
    """
    smoothed = train_counts + 0.5
    log_share = np.log(smoothed) - math.log(smoothed.sum())
    return float(-log_share[targets].mean())

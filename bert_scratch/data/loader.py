"""Map (seed, step) to a batch, without state: resuming at any step costs nothing.

The examples of all epochs form one endless line, epoch after epoch, each epoch in its own keyed
order; step s takes places s * B to s * B + B - 1 of it.

With a mixture (`prepare --mixture`) each component has its own epochs, and the line is dealt out
to the components in blocks of 1,024 places (`order.py`). N, the length of an epoch, is then the
total number of examples of all components: on average the text is read once, some of it more often
and some less. Steps, resuming and workers are unaffected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import PAIR_SAMPLINGS, PAIR_TASKS, InputError, check_choice, check_range
from bert_scratch.data.examples import ExampleBatch
from bert_scratch.data.google_pairs import GooglePairs
from bert_scratch.data.joined_text import JoinedText
from bert_scratch.data.mask_settings import USUAL_MASKS, MaskSettings
from bert_scratch.data.masking import Masker
from bert_scratch.data.mixed_examples import ExampleSource, MixedExamples
from bert_scratch.data.mixture import mixture_components
from bert_scratch.data.order import EpochOrder, MixedOrder, component_seed
from bert_scratch.data.pairs import BalancedPairs
from bert_scratch.data.rows import lay_out
from bert_scratch.data.shard import Shard
from bert_scratch.data.share import examples_of_rank
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import SpecialIds

EVALUATION_SEED = 0x0E7A1_5EED
"""The key of evaluation's order, pairs and masks: fixed, so that runs are comparable."""
EVALUATION_MASKED_LM_PROB = 0.15


@dataclass(eq=False)
class ExampleLoader:
    """Give the batch of any step.

    Attributes:
        order: place in the endless line -> (epoch, slot).
        source: (epoch, slot) -> the example's text.
        masker: chooses what to mask in it.
        facts: of one epoch.
        num_examples: N, the places in an epoch.

    Raises:
        InputError: on a value out of range or a corpus that cannot serve the pair task.
    """

    store: TokenStore
    """The prepared corpus; its mixture, if any, applies to the train split."""
    _: KW_ONLY
    split: str = "train"
    """train or eval."""
    batch_size: int
    """B, examples per step."""
    max_seq_length: int
    """The longest row, special tokens included."""
    seed: int
    """The key of order, pairs and masks."""
    special_ids: SpecialIds
    """The tokenizer's special token ids."""
    unselectable_ids: Collection[int]
    """Tokens that are neither masked nor drawn (see `Masker`)."""
    pair_task: str = "nsp"
    """nsp, sop or none."""
    pair_sampling: str = "balanced"
    """balanced, or (nsp only) google."""
    short_seq_prob: float = 0.1
    """Share of examples with a shorter target length."""
    masks: MaskSettings = USUAL_MASKS
    """What is masked and shown in its place."""
    continuing_ids: Collection[int] = ()
    """Tokens that continue a word (`##` pieces): they tell where words start unless the store
    does."""
    rank: int = 0
    """Rank of this process; `batch_at` and `batches` give its share of each step (`share.py`)."""
    world_size: int = 1
    """Number of ranks, at most B."""

    def __post_init__(self) -> None:
        check_range("train_batch_size", self.batch_size, at_least=1)
        if self.world_size > self.batch_size:
            raise InputError(
                f"--train-batch-size {self.batch_size} is smaller than the number of ranks, "
                f"{self.world_size}; start at most {self.batch_size} ranks"
            )
        self.masker = Masker(
            vocab_size=self.store.vocab_size,
            special_ids=self.special_ids,
            unselectable_ids=self.unselectable_ids,
            seed=self.seed,
            settings=self.masks,
        )
        self._starts_word = np.ones(self.store.vocab_size, bool)
        self._starts_word[list(self.continuing_ids)] = False
        open_part = functools.partial(
            open_examples,
            split=self.split,
            max_seq_length=self.max_seq_length,
            pair_task=self.pair_task,
            pair_sampling=self.pair_sampling,
            short_seq_prob=self.short_seq_prob,
            word_starts=self.masks.unit != "token" and self.store.has_word_starts,
        )
        self.source, self.order = _open(self.store, self.split, open_part, self.seed)
        self.facts = self.source.facts
        self.num_examples = self.facts.num_examples

    def batch_at(self, step: int) -> Batch:
        """Return the batch of a step, padded to its longest row rounded up to a multiple of 8."""
        (batch,) = self.batches(range(step, step + 1))
        return batch

    def batches(self, steps: range) -> list[Batch]:
        """Return the batches of consecutive steps, built together: faster than one by one."""
        places = np.arange(steps.start * self.batch_size, steps.stop * self.batch_size)
        examples, ids = self._examples_at(places)
        if self.world_size > 1:
            examples, ids = examples_of_rank(
                examples,
                ids,
                num_steps=len(steps),
                rank=self.rank,
                world_size=self.world_size,
            )
        together = self._masked(examples, ids)
        if len(steps) == 1:
            return [together]
        size = len(ids) // len(steps)
        return [together.rows(number * size, (number + 1) * size) for number in range(len(steps))]

    def batch_of(self, places: npt.NDArray[np.int64]) -> Batch:
        """Return a batch of the examples at any places of the endless line.

        Args:
            places: [B] int64, global example numbers.
        """
        return self._masked(*self._examples_at(places))

    def _examples_at(
        self, places: npt.NDArray[np.int64]
    ) -> tuple[ExampleBatch, npt.NDArray[np.int64]]:
        """Return the examples at any places of the endless line, and their ids, [B, 2] int64."""
        epochs, slots = self.order.at(places)
        return self.source.batch(epochs, slots), np.stack([epochs, slots], axis=1)

    def _masked(self, examples: ExampleBatch, example_ids: npt.NDArray[np.int64]) -> Batch:
        """Lay the examples out as rows and mask them."""
        rows = lay_out(examples, self.special_ids, self.max_seq_length)
        word_starts = None
        if self.masks.unit != "token":
            starts = rows.word_starts
            word_starts = self._starts_word[rows.input_ids] if starts is None else starts
        ids = torch.from_numpy(example_ids)
        masked_ids, masked_positions, masked_labels = self.masker.mask(
            torch.from_numpy(rows.input_ids),
            torch.from_numpy(rows.lengths),
            ids,
            None if word_starts is None else torch.from_numpy(word_starts),
        )
        labels = examples.labels
        return Batch(
            input_ids=masked_ids,
            token_type_ids=torch.from_numpy(rows.token_type_ids),
            attention_mask=torch.from_numpy(rows.attention_mask),
            masked_positions=masked_positions,
            masked_labels=masked_labels,
            next_sentence_label=None if labels is None else torch.from_numpy(labels),
            example_ids=ids,
            num_tokens=int(rows.lengths.sum()),
        )


def _open(
    store: TokenStore, split: str, open_part: Callable[..., ExampleSource], seed: int
) -> tuple[ExampleSource, EpochOrder | MixedOrder]:
    """Return the examples of a split and their order; only the train split is ever mixed."""
    if split == "train" and store.manifest.get("mixture"):
        return _mixed(store, open_part, seed)
    source = open_part(store.shards(split), seed=seed)
    return source, EpochOrder(source.facts.num_examples, seed)


def _mixed(
    store: TokenStore, open_part: Callable[..., ExampleSource], seed: int
) -> tuple[MixedExamples, MixedOrder]:
    """Return the examples of the components that have a share, and the order that mixes them."""
    shards = store.shards("train")
    components = mixture_components(store.manifest)
    sources: list[ExampleSource] = []
    for number, component in enumerate(components):
        own = [shards[index] for index in component.shards]
        try:
            sources.append(open_part(own, seed=component_seed(seed, number)))
        except InputError as error:
            raise InputError(f"--mixture, --corpus {component.path}: {error}") from error
    num_examples = [source.facts.num_examples for source in sources]
    order = MixedOrder(num_examples, [component.places for component in components], seed)
    return MixedExamples(sources), order


def open_examples(
    shards: Sequence[Shard],
    *,
    split: str,
    max_seq_length: int,
    pair_task: str,
    pair_sampling: str,
    short_seq_prob: float,
    seed: int,
    word_starts: bool = False,
) -> BalancedPairs | GooglePairs | JoinedText:
    """Return the example source for a pair task and sampling.

    Raises:
        InputError: on an unknown choice, a sequence length without room for two tokens, google
            sampling without nsp, or a split that cannot serve the task.
    """
    check_choice("--pair-task", pair_task, PAIR_TASKS)
    check_choice("--pair-sampling", pair_sampling, PAIR_SAMPLINGS)
    check_range("--max-seq-length", max_seq_length, at_least=5)
    if pair_sampling == "google" and pair_task != "nsp":
        raise InputError(
            f"--pair-sampling google makes nsp pairs only; got --pair-task {pair_task}"
        )
    num_special = 2 if pair_task == "none" else 3
    shape: dict[str, Any] = {
        "max_tokens": max_seq_length - num_special,
        "short_seq_prob": short_seq_prob,
        "seed": seed,
        "split": split,
        "word_starts": word_starts,
    }
    if pair_task == "none":
        return JoinedText(shards, **shape)
    if pair_sampling == "google":
        return GooglePairs(shards, **shape)
    return BalancedPairs(shards, **shape, swap=pair_task == "sop")


def evaluation_batches(
    store: TokenStore,
    *,
    batch_size: int,
    max_seq_length: int,
    special_ids: SpecialIds,
    unselectable_ids: Collection[int],
    pair_task: str = "nsp",
    max_examples: int | None = 1024,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Return held-out batches whose order, pairs and masks do not depend on the run's seed.

    Args:
        store: the prepared corpus.
        batch_size: examples per batch; the last may hold fewer.
        max_seq_length: the longest row.
        special_ids: of the tokenizer.
        unselectable_ids: tokens that are neither masked nor drawn.
        pair_task: nsp, sop or none.
        max_examples: at most this many, spread over the whole text; None: each example once.
        rank: of this process, which takes every `world_size`-th batch.
        world_size: number of ranks.

    Raises:
        InputError: if the held-out text cannot serve the pair task.
    """
    loader = ExampleLoader(
        store,
        split="eval",
        batch_size=batch_size,
        max_seq_length=max_seq_length,
        seed=EVALUATION_SEED,
        special_ids=special_ids,
        unselectable_ids=unselectable_ids,
        pair_task=pair_task,
        masks=MaskSettings(masked_lm_prob=EVALUATION_MASKED_LM_PROB),
    )
    limit = loader.num_examples
    if max_examples is not None:
        limit = min(limit, max_examples)
    places = np.arange(limit, dtype=np.int64)
    starts = range(rank * batch_size, limit, world_size * batch_size)
    return (loader.batch_of(places[start : start + batch_size]) for start in starts)

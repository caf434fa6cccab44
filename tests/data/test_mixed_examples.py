"""Pins mixtures in the loader: components make their pairs among themselves, in exact shares, the
same for any batch size and starting step; and where words start in a store that says so.

Run alone: pytest tests/data/test_mixed_examples.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import InputError
from bert_scratch.data.loader import ExampleLoader, evaluation_batches
from bert_scratch.data.mask_settings import MaskSettings
from bert_scratch.data.mixed_examples import MixedExamples
from bert_scratch.data.mixture import BLOCK_PLACES, mixture_components
from bert_scratch.data.shard import SPLITS, write_shard
from bert_scratch.data.store import TokenStore, write_manifest
from bert_scratch.data.wordpiece import SpecialIds
from bert_scratch.data.workers import iterate

V = 1000
SPECIAL = SpecialIds(0, 1, 2, 3, 4)
# shard -> its component; the path "en" has text and jsonl, so two sources
SOURCES = [0, 1, 2, 3, 3]
SOURCE_PATHS = ["en", "en", "small", "zh"]
DOCUMENTS = [30, 20, 6, 40, 25]
FIRST_TOKEN = {"en": 5, "small": 300, "zh": 600}


@pytest.fixture(scope="module")
def make_store(tmp_path_factory):
    """Write a store with a mixture; the tokens of a component lie in a range of its own."""

    def make(mixture=("3", "1", "2"), documents=DOCUMENTS) -> TokenStore:
        rng = np.random.default_rng(0)
        folder = tmp_path_factory.mktemp("mixed")
        records = []
        for index, source in enumerate(SOURCES):
            record = {}
            for split in SPLITS:
                with write_shard(folder, index, split, V, with_word_starts=True) as writer:
                    for _ in range(documents[index] if split == "train" else 3):
                        lengths = rng.integers(1, 30, rng.integers(1, 12))
                        first = FIRST_TOKEN[SOURCE_PATHS[source]]
                        sentences = [rng.integers(first, first + 290, n) for n in lengths]
                        # a word starts with every even token
                        writer.add_document(sentences, [s % 2 == 0 for s in sentences])
                record[split] = writer.record
            records.append(record)
        facts = {
            "mixture": list(mixture),
            "sources": [{"path": path} for path in SOURCE_PATHS],
            "slices": [{"source": source} for source in SOURCES],
        }
        write_manifest(folder, records, vocab_size=V, facts=facts)
        return TokenStore(folder)

    return make


@pytest.fixture(scope="module")
def store(make_store) -> TokenStore:
    return make_store()


def loader_of(store: TokenStore, **choices) -> ExampleLoader:
    fixed = {
        "batch_size": 64,
        "max_seq_length": 32,
        "seed": 7,
        "special_ids": SPECIAL,
        "unselectable_ids": range(5),
    }
    return ExampleLoader(store, **fixed | choices)


def unmasked(batch: Batch) -> torch.Tensor:
    input_ids = batch.input_ids.flatten().clone()
    input_ids[batch.masked_positions] = batch.masked_labels
    return input_ids.view_as(batch.input_ids)


def component_of(batch: Batch) -> torch.Tensor:
    """The component of each row, after checking that all its tokens are of the same."""
    tokens = unmasked(batch)
    component = torch.bucketize(tokens, torch.tensor([300, 600]), right=True)
    owner = component[:, 1]
    assert ((component == owner[:, None]) | (tokens < 5)).all()
    return owner


def test_sources_of_one_path_are_one_component(store) -> None:
    components = mixture_components(store.manifest)
    assert [(part.path, part.shards, part.places) for part in components] == [
        ("en", [0, 1], 512),
        ("small", [2], 171),
        ("zh", [3, 4], 341),
    ]
    train = store.shards("train")
    total = sum(shard.num_tokens for shard in train)
    assert components[1].text_share == train[2].num_tokens / total


def test_component_sizes_are_the_examples_of_each_alone(store) -> None:
    source = loader_of(store).source
    assert isinstance(source, MixedExamples)
    ids = loader_of(store).batch_of(np.arange(40 * BLOCK_PLACES)).example_ids
    ends = np.cumsum(source.component_sizes)
    assert ends[-1] == source.facts.num_examples == len(ids[:, 1].unique())


@pytest.mark.parametrize("choices", [{}, {"pair_task": "none"}, {"pair_sampling": "google"}])
def test_every_block_has_exact_shares_of_rows_made_inside_their_component(store, choices) -> None:
    loader = loader_of(store, **choices)
    for block in range(3):
        first = block * BLOCK_PLACES
        batch = loader.batch_of(np.arange(first, first + BLOCK_PLACES))
        assert torch.bincount(component_of(batch)).tolist() == [512, 171, 341]


def test_slots_of_components_follow_each_other_and_epochs_are_their_own(store) -> None:
    loader = loader_of(store)
    batch = loader.batch_of(np.arange(4 * BLOCK_PLACES))
    owner, (epochs, slots) = component_of(batch), batch.example_ids.T
    sizes = []
    for component in range(3):
        own = owner == component
        first_epoch = slots[own][epochs[own] == 0]
        sizes.append(len(first_epoch))
        assert sorted((first_epoch - sum(sizes[:-1])).tolist()) == list(range(sizes[-1]))
    assert sum(sizes) == loader.num_examples
    # the small one has been through its text many times while the large ones have not
    assert epochs[owner == 1].max() > 3 * epochs[owner == 2].max()


def test_examples_do_not_depend_on_batch_size_or_starting_step(store) -> None:
    large = loader_of(store, batch_size=96).batch_at(20)
    small = [loader_of(store, batch_size=32).batch_at(step) for step in (60, 61, 62)]
    resumed = list(iterate(loader_of(store, batch_size=32), 60, 63, 0))
    for batches in (small, resumed):
        assert torch.equal(large.example_ids, torch.cat([b.example_ids for b in batches]))
        assert torch.equal(large.masked_labels, torch.cat([b.masked_labels for b in batches]))
        labels = torch.cat([b.next_sentence_label for b in batches])
        assert torch.equal(large.next_sentence_label, labels)


@pytest.mark.slow
def test_workers_give_the_same_mixture(store) -> None:
    loader = loader_of(store)
    alone, built = (list(iterate(loader, 5, 9, workers)) for workers in (0, 1))
    for one, other in zip(alone, built, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.example_ids, other.example_ids)


def test_evaluation_takes_held_out_text_as_it_is(make_store) -> None:
    mixed, plain = (
        list(
            evaluation_batches(
                make_store(mixture),
                batch_size=16,
                max_seq_length=32,
                special_ids=SPECIAL,
                unselectable_ids=range(5),
            )
        )
        for mixture in (("3", "1", "2"), ())
    )
    for one, other in zip(mixed, plain, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)


def test_facts_are_those_of_all_components(store) -> None:
    facts = loader_of(store).facts
    assert facts.num_documents == sum(DOCUMENTS) and facts.random_next_share == 0.5
    assert loader_of(store, pair_task="none").facts.random_next_share is None


def test_a_power_leaves_out_what_has_no_text(make_store) -> None:
    loader = loader_of(make_store(("share^0.5",), documents=[30, 20, 0, 40, 25]))
    owner = component_of(loader.batch_of(np.arange(BLOCK_PLACES)))
    assert torch.bincount(owner, minlength=3)[1] == 0


def test_a_component_that_cannot_make_pairs_is_named(make_store) -> None:
    with pytest.raises(InputError, match="--mixture, --corpus small: .*at least two documents"):
        loader_of(make_store(documents=[30, 20, 1, 40, 25]))


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("choices", [{}, {"pair_task": "none"}, {"pair_sampling": "google"}])
def test_words_are_those_of_the_store(store, unit: str, choices: dict) -> None:
    batch = loader_of(store, masks=MaskSettings(unit=unit), **choices).batch_at(0)
    tokens = unmasked(batch)
    chosen = torch.zeros(tokens.numel(), dtype=torch.bool)
    chosen[batch.masked_positions] = True
    chosen = chosen.view_as(tokens)
    assert chosen.any() and not chosen[tokens < 5].any()
    # an odd token goes on the word of the token before it, if that is text
    joined = (tokens[:, 1:] >= 5) & (tokens[:, 1:] % 2 == 1) & (tokens[:, :-1] >= 5)
    assert torch.equal(chosen[:, 1:][joined], chosen[:, :-1][joined])


def test_pieces_tell_where_words_start_in_a_store_that_does_not(store, monkeypatch) -> None:
    told = loader_of(store, masks=MaskSettings(unit="word")).batch_at(0)
    monkeypatch.setattr(store, "has_word_starts", False)
    pieces = range(5, V, 2)
    found = loader_of(store, masks=MaskSettings(unit="word"), continuing_ids=pieces).batch_at(0)
    assert torch.equal(told.input_ids, found.input_ids)
    without = loader_of(store, masks=MaskSettings(unit="word")).batch_at(0)
    assert not torch.equal(told.input_ids, without.input_ids)


def test_components_draw_their_pairs_apart(make_store) -> None:
    source = loader_of(make_store()).source
    sizes = source.component_sizes
    places = np.arange(min(sizes[:2]))
    labels = [source.batch(0 * places, first + places).labels for first in (0, sizes[0])]
    assert not np.array_equal(*labels)

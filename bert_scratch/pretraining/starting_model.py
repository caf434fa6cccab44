"""The weights that a run starts with: drawn, or those of a model.

Word vectors, from another program or counted from the corpus, can replace drawn word embeddings; a
word that was added to a model's vocabulary gets its own row.

Letters: V vocabulary, D hidden.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig, InputError, first_few
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import has_tokenizer, load_tokenizer, vocab_size_of
from bert_scratch.inference.word_embeddings import (
    InitialEmbeddings,
    word_embeddings_from_vectors,
)
from bert_scratch.model.folder import read_config
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.weight_files import find_folder
from bert_scratch.pretraining.added_tokens import pieces_of_added
from bert_scratch.pretraining.choices import CORPUS_VECTORS, NO_VECTORS
from bert_scratch.pretraining.counted_vectors import word_vectors_from_corpus
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import filled

_ROWS = ("bert.embeddings.word_embeddings.weight", "mlm_head.decoder.bias")
"""Parameters with a row or number per token; the decoder's matrix is tied to the first."""
_SHOWN = 5


def word_vectors_of(
    config: PretrainConfig, shape: BertConfig, tokenizer: Tokenizer, store: TokenStore
) -> Callable[[], InitialEmbeddings] | None:
    """Return a function that reads or counts the vectors for --init-word-vectors once, or None."""
    source, size, spread = config.init_word_vectors, shape.hidden_size, shape.initializer_range
    if source is None or source == NO_VECTORS:
        return None

    @functools.cache
    def vectors() -> InitialEmbeddings:
        if source == CORPUS_VECTORS:
            return word_vectors_from_corpus(
                store, hidden_size=size, standard_deviation=spread, seed=config.seed
            )
        return word_embeddings_from_vectors(
            tokenizer, source, hidden_size=size, standard_deviation=spread
        )

    return vectors


def drawn_model(
    config: PretrainConfig, shape: BertConfig, word_vectors: InitialEmbeddings | None
) -> BertForPreTraining:
    """Return a model drawn from torch's default generator.

    Args:
        config: resolved.
        shape: of the model.
        word_vectors: replace their rows of the word embeddings; their biases are used too.
    """
    model = BertForPreTraining(
        shape.replace(trained_seq_length=_trained_seq_length(config, shape)),
        initializer=filled(config.initializer),
        train_pad_row=filled(config.train_pad_row),
    )
    if word_vectors is not None:
        with torch.no_grad():
            rows = model.bert.embeddings.word_embeddings.weight
            rows[torch.from_numpy(word_vectors.ids)] = torch.from_numpy(word_vectors.vectors)
            if word_vectors.decoder_bias is not None:
                model.mlm_head.decoder.bias.copy_(torch.from_numpy(word_vectors.decoder_bias))
    return model


def stored_model(
    config: PretrainConfig, shape: BertConfig, folder: str | Path, *, new_head: bool
) -> BertForPreTraining:
    """Return the model of a folder or hub id, with the run's dropout and pair task.

    Args:
        config: resolved.
        shape: gives the dropout.
        folder: --init-checkpoint, or a checkpoint of the run.
        new_head: draw a head that the folder lacks.
    """
    return BertForPreTraining.from_pretrained(
        folder,
        new_head=new_head,
        train_pad_row=filled(config.train_pad_row),
        pair_task=config.pair_task,
        trained_seq_length=_trained_seq_length(config, shape),
        hidden_dropout_prob=shape.hidden_dropout_prob,
        attention_probs_dropout_prob=shape.attention_probs_dropout_prob,
    )


def check_initial_model(config: PretrainConfig) -> None:
    """Read --init-checkpoint once, if given, before a long preparation of the corpus.

    Raises:
        InputError: if it is not a BERT, its weights cannot be read, or it has fewer rows than its
            tokenizer has tokens.
    """
    if config.init_checkpoint is None:
        return
    folder = find_folder(config.init_checkpoint)
    model = BertForPreTraining.from_pretrained(folder, new_head=True)
    if has_tokenizer(folder):
        tokens = vocab_size_of(load_tokenizer(folder))
        if model.config.vocab_size < tokens:
            raise InputError(
                f"--init-checkpoint {folder} has {model.config.vocab_size} word embeddings, but "
                f"its own tokenizer has {tokens} tokens; give it the tokenizer it was trained with"
            )


def _trained_seq_length(config: PretrainConfig, shape: BertConfig) -> int | None:
    """Return the longest row length that the model will have been trained on, if known."""
    if config.init_checkpoint is None:
        return config.max_seq_length
    before = shape.trained_seq_length
    return None if before is None else max(before, filled(config.max_seq_length))


def with_new_rows(
    model: BertForPreTraining, pieces: Mapping[int, Sequence[int]], *, train_pad_row: bool
) -> BertForPreTraining:
    """Return a model with a row for each word that was added to the vocabulary.

    A new word's embedding and its bias in the decoder are the means of its pieces'. So its score
    is always the mean of its pieces' scores: it is at most as likely as they are on average, and
    does not displace what the model knows.

    Args:
        model: left unchanged.
        pieces: {id: ids of the word's former pieces}.
        train_pad_row: as for the model.

    Source:
        Hewitt 2021, "Initializing new word embeddings for pretrained language models".
    """
    vocab_size = max(model.config.vocab_size, *(number + 1 for number in pieces))
    larger = BertForPreTraining(
        model.config.replace(vocab_size=vocab_size), train_pad_row=train_pad_row
    )
    state = model.state_dict()
    for name in _ROWS:
        before = state[name]
        after = before.new_zeros(vocab_size, *before.shape[1:])
        after[: len(before)] = before
        for number, ids in pieces.items():
            after[number] = before[list(ids)].mean(dim=0)
        state[name] = after
    state["mlm_head.decoder.weight"] = state[_ROWS[0]]
    larger.load_state_dict(state)
    return larger.train(model.training)


def new_tokens(init_checkpoint: str, tokenizer: Tokenizer) -> dict[int, list[int]]:
    """Return {id: ids of its pieces} of the tokens that a corpus has but the checkpoint lacks."""
    folder = find_folder(init_checkpoint)
    if not has_tokenizer(folder):
        return {}
    return pieces_of_added(load_tokenizer(folder), tokenizer)


def initial_shape(
    config: PretrainConfig, tokenizer: Tokenizer, added: Mapping[int, Sequence[int]]
) -> BertConfig | None:
    """Return the shape of --init-checkpoint with the user's dropout, and rows for new words.

    Args:
        config: what the user gave.
        tokenizer: of the corpus.
        added: from `new_tokens`.

    Raises:
        InputError: if the checkpoint is not a BERT, or has too few rows for the corpus.
    """
    if config.init_checkpoint is None:
        return None
    shape = read_config(find_folder(config.init_checkpoint))
    needed = vocab_size_of(tokenizer)
    if shape.vocab_size < needed and not added:
        raise InputError(
            f"--init-checkpoint {config.init_checkpoint} has {shape.vocab_size} tokens, the corpus "
            f"was prepared with {needed}; prepare it with the checkpoint's tokenizer"
        )
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    given = {name: value for name in names if (value := getattr(config, name)) is not None}
    return shape.replace(vocab_size=max(shape.vocab_size, needed), **given)


def describe_new_rows(
    pieces: Mapping[int, Sequence[int]], tokenizer: Tokenizer, store: TokenStore
) -> str:
    """Say which pieces new words had, and which of them do not occur in the text."""

    def token(number: int) -> str:
        return str(tokenizer.id_to_token(number))

    words = [f"{token(number)} ({' '.join(map(token, ids))})" for number, ids in pieces.items()]
    line = f"{len(pieces)} new rows, the means of their pieces: {first_few(words, _SHOWN)}"
    unseen = [token(number) for number in pieces if not store.token_counts[number]]
    if unseen:
        shown = first_few(unseen, _SHOWN)
        line += f"; {len(unseen)} do not occur in the text and learn nothing: {shown}"
    return line

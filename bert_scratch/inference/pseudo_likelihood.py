"""How probable a text is to a masked language model, masking each token in turn.

Letters: n tokens of a text, R masked copies, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Encoding, Tokenizer

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.encoding import encode_with_offsets
from bert_scratch.data.wordpiece import SpecialIds, special_ids
from bert_scratch.inference.inputs import (
    EncodedText,
    MaskedLM,
    answering,
    check_known,
    each_text,
    logits_at,
)

LogLikelihoods = npt.NDArray[np.float32]

TOKENS_PER_BATCH = 8192
# The logits of this many copies fit in memory for any vocabulary.
_MAX_COPIES = 512


def pseudo_log_likelihoods(
    model: MaskedLM,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    within_word_left_to_right: bool,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[LogLikelihoods]:
    """Return log P(token | the rest of its text) of each token.

    A text of n tokens takes n rows, one per token; rows of similar length share a pass. In a text
    longer than a row, each token sees as many of the tokens around it as fit.

    Args:
        model: on any device; left unchanged.
        tokenizer: the model's; special tokens written out in a text are text.
        texts: any number; one without tokens has an empty array.
        within_word_left_to_right: also hide the later pieces of a token's word. Otherwise later
            pieces nearly give it away, and rare words look probable.
        tokens_per_batch: positions per pass, padding included; a single row may exceed it.

    Returns:
        For each text [n] float32, natural logarithms; [CLS] and [SEP] have none.

    Raises:
        InputError: if a token has no embedding, a row has no room for one, or texts is not a list
            of strings.

    Source:
        Salazar et al. 2020, "Masked Language Model Scoring", equation 1 (PLL); left to right
        within words as Kauf and Ivanova 2023, "A Better Way to Do Masked Language Model Scoring"
        (PLL-word-l2r). Neither says what to do with texts longer than a row.
    """
    special = special_ids(tokenizer)
    encodings = encode_with_offsets(tokenizer, list(each_text(texts)))
    _check_known(encodings, model.config)
    max_tokens = model.config.max_position_embeddings - 2
    found = [np.empty(len(encoding.ids), np.float32) for encoding in encodings]
    with answering(model) as device:
        for tokens in _passes(encodings, max_tokens=max_tokens, tokens_per_batch=tokens_per_batch):
            copies = [
                _masked_copy(
                    encodings[text],
                    token,
                    special,
                    max_tokens,
                    later_pieces=within_word_left_to_right,
                )
                for text, token in tokens
            ]
            rows, columns = [c.encoded for c in copies], [[c.column] for c in copies]
            logits = logits_at(model, rows, columns, pad_id=special.pad, device=device)  # [R, V]
            targets = torch.tensor([encodings[text].ids[token] for text, token in tokens])
            losses = torch.nn.functional.cross_entropy(
                logits.float(), targets.to(device), reduction="none"
            )
            for (text, token), loss in zip(tokens, losses.tolist(), strict=True):
                found[text][token] = -loss
    return found


class _Copy(NamedTuple):
    """A row with one token to guess."""

    encoded: EncodedText
    column: int
    """The token's position in the row, [CLS] being 0."""


def _passes(
    encodings: Sequence[Encoding], *, max_tokens: int, tokens_per_batch: int
) -> Iterator[list[tuple[int, int]]]:
    """Yield a list of (text, token) for each pass, the tokens of the longest texts first."""
    order = sorted(range(len(encodings)), key=lambda text: -len(encodings[text].ids))
    tokens: list[tuple[int, int]] = []
    room = 0
    for text in order:
        for token in range(len(encodings[text].ids)):
            if len(tokens) == room:
                if tokens:
                    yield tokens
                longest = min(max_tokens, len(encodings[text].ids)) + 2
                tokens, room = [], min(max(1, tokens_per_batch // longest), _MAX_COPIES)
            tokens.append((text, token))
    if tokens:
        yield tokens


def _masked_copy(
    encoding: Encoding, token: int, special: SpecialIds, max_tokens: int, *, later_pieces: bool
) -> _Copy:
    """Return a text's row with a token masked, and on request the later pieces of its word too.

    If the text is longer than a row, the row is centred on the token as far as possible.
    """
    num_tokens = len(encoding.ids)
    start = min(max(0, token - max_tokens // 2), max(0, num_tokens - max_tokens))
    end = min(num_tokens, start + max_tokens)
    hidden = token + 1
    while later_pieces and hidden < end and encoding.word_ids[hidden] == encoding.word_ids[token]:
        hidden += 1
    ids = encoding.ids[start:token] + [special.mask] * (hidden - token) + encoding.ids[hidden:end]
    row = [special.cls, *ids, special.sep]
    encoded = EncodedText(ids=row, token_type_ids=[0] * len(row))
    return _Copy(encoded, column=token - start + 1)


def _check_known(encodings: Sequence[Encoding], config: BertConfig) -> None:
    if config.max_position_embeddings < 3:
        raise InputError(
            f"a row of {config.max_position_embeddings} positions (max_position_embeddings) has "
            f"no room for a token between [CLS] and [SEP]"
        )
    highest = max((max(encoding.ids, default=0) for encoding in encodings), default=0)
    check_known(highest, config)

"""All data shown on a page about one text, as plain JSON values.

Letters: S positions, L layers, H heads, D hidden, N hidden tokens, k guesses.
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import special_ids
from bert_scratch.inference.attention_maps import (
    attention_maps,
    attention_rollout,
    head_statistics,
)
from bert_scratch.inference.attribution import gradient_x_input, integrated_gradients
from bert_scratch.inference.embed import encoder_of
from bert_scratch.inference.inputs import EncodedText, MaskedLM, answering, encode_pair
from bert_scratch.inference.layer_similarity import drift, layer_similarity, token_similarity
from bert_scratch.inference.lens import (
    Guesses,
    Ranked,
    hidden_states,
    layer_states,
    logit_lens,
    nearest_words,
)
from bert_scratch.inference.masked_rows import MaskedRows, hide_each_token
from bert_scratch.inference.next_sentence import has_learned_next_sentence
from bert_scratch.inference.whole_model import WholeModel
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForPreTraining

MAX_TOKENS = 128
TOP_K = 6

Json = dict[str, Any]


def explanation(
    model: WholeModel, tokenizer: Tokenizer, a: str, b: str | None, *, num_steps: int
) -> Json:
    """Run a model on a text in every way that the page shows.

    Args:
        model: with the heads it has; without a masked-word head there are no predictions.
        tokenizer: the model's.
        a: the text; "[MASK]" in it is the mask token.
        b: a second text, or None.
        num_steps: steps of integrated gradients.

    Raises:
        InputError: if the text has no token, or more than the page or the model can take.
    """
    config = model.config
    encoded = encode_pair(tokenizer, a, b, config=config, with_masks=True)
    length = len(encoded.ids)
    if length > MAX_TOKENS:
        raise InputError(
            f"the text is {length} tokens long with its special tokens; a page shows at most "
            f"{MAX_TOKENS}: shorten it"
        )
    special = special_ids(tokenizer)
    if length == (2 if b is None else 3):
        raise InputError("the text has no token to look at")
    maps = attention_maps(model, tokenizer, a, b)
    is_separator = torch.tensor(encoded.ids) == special.sep
    statistics = head_statistics(maps.weights, is_separator)
    ids, types = torch.tensor([encoded.ids]), torch.tensor([encoded.token_type_ids])
    states = layer_states(model, ids, types)
    names = _Names(tokenizer)
    found: Json = {
        "shape": _shape(config),
        "tokens": maps.tokens,
        "segments": maps.token_type_ids,
        "special": [token in (special.cls, special.sep) for token in encoded.ids],
        "masks": [i for i, token in enumerate(encoded.ids) if token == special.mask],
        "attention": packed(maps.weights),
        "statistics": {
            field.name: packed(getattr(statistics, field.name))
            for field in dataclasses.fields(statistics)
        },
        "rollout": packed(attention_rollout(maps.weights)),
        "nearest": names.guesses(
            nearest_words(encoder_of(model).embeddings.word_embeddings.weight, states, TOP_K)
        ),
        "geometry": _geometry(encoder_of(model), states, ids, types),
    }
    if not isinstance(model, BertModel):
        found |= _predictions(model, tokenizer, names, a, b, states, num_steps)
    has_learned = has_learned_next_sentence(config)
    if b is not None and isinstance(model, BertForPreTraining) and has_learned:
        with answering(model) as device:
            pooled = model.bert(ids.to(device), types.to(device)).pooler_output
            found["is_next"] = float(torch.softmax(model.nsp_head(pooled)[0].float(), dim=-1)[0])
    return found | {"names": names.texts}


def packed(values: Tensor) -> Json:
    """Encode an array as 16-bit steps between its smallest and largest value, in base64."""
    low, high = float(values.min()), float(values.max())
    steps = (values.double() - low) / ((high - low) or 1.0) * 65535
    data = steps.round().to(torch.int32).cpu().numpy().astype("<u2").tobytes()
    return {
        "shape": list(values.shape),
        "low": low,
        "high": high,
        "data": base64.b64encode(data).decode(),
    }


class _Names:
    """The texts of the tokens that occur in guesses, each stored once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._places: dict[int, int] = {}
        self.texts: list[str] = []

    def guesses(self, guesses: Guesses) -> Json:
        """Return ids as flat indices into `texts`, and the scores."""
        places = [self._place(token) for token in guesses.ids.flatten().tolist()]
        return {"names": places, "scores": packed(guesses.scores)}

    def _place(self, token: int) -> int:
        if token not in self._places:
            self._places[token] = len(self.texts)
            self.texts.append(self._tokenizer.id_to_token(token) or f"({token})")
        return self._places[token]


def _shape(config: BertConfig) -> Json:
    return {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "hidden": config.hidden_size,
        "vocabulary": config.vocab_size,
    }


def _geometry(encoder: BertModel, states: Tensor, ids: Tensor, types: Tensor) -> Json:
    """Return lengths and similarities of vectors; states are [L + 1, S, D]."""
    embeddings = encoder.embeddings
    device = embeddings.word_embeddings.weight.device
    with torch.inference_mode():
        words = embeddings.word_embeddings(ids[0].to(device))
        positions = embeddings.position_embeddings.weight[: ids.shape[1]]
        kinds = embeddings.token_type_embeddings(types[0].to(device))
        summed = words + positions + kinds
        parts = torch.stack([words, positions, kinds, summed])
        norms = parts.norm(dim=-1).float().cpu()
    return {
        "layers": packed(layer_similarity(states)),
        "tokens": packed(token_similarity(states)),
        "drift": packed(drift(states)),
        "norms": packed(states.norm(dim=-1)),
        "embeddings": packed(norms),
    }


def _predictions(
    model: MaskedLM,
    tokenizer: Tokenizer,
    names: _Names,
    a: str,
    b: str | None,
    states: Tensor,
    num_steps: int,
) -> Json:
    """Return each layer's predictions at each token, shown or hidden, and their attributions."""
    encoded = encode_pair(tokenizer, a, b, config=model.config, with_masks=True)
    num_layers = len(states)
    labels = torch.tensor(encoded.ids).expand(num_layers, -1)
    shown = _lens(names, *logit_lens(model.mlm_head, states, TOP_K, labels))
    device = next(model.parameters()).device
    rows = hide_each_token(encoded, tokenizer, device=device)
    own = rows.labels.cpu()[:, None].expand(-1, num_layers)
    guesses, ranked = logit_lens(model.mlm_head, hidden_states(model, rows), TOP_K, own)
    return {
        "shown": shown,
        "hidden": _lens(names, guesses, ranked) | {"positions": rows.positions.tolist()},
        "attribution": {
            "gradient": packed(gradient_x_input(model, rows, guesses.ids[:, -1, 0])),
            **_path(model, tokenizer, encoded, rows, guesses.ids[:, -1, 0], num_steps),
        },
    }


def _path(
    model: MaskedLM,
    tokenizer: Tokenizer,
    encoded: EncodedText,
    rows: MaskedRows,
    targets: Tensor,
    num_steps: int,
) -> Json:
    """Return integrated gradients at each [MASK], or at each token if the text has none."""
    masks = (rows.labels == special_ids(tokenizer).mask).nonzero().squeeze(1).cpu()
    asked = masks if len(masks) else torch.arange(len(rows.labels))
    positions = rows.positions.cpu()[asked].tolist()
    device = rows.input_ids.device
    chosen = hide_each_token(encoded, tokenizer, positions=positions, device=device)
    path = integrated_gradients(model, chosen, targets[asked], tokenizer, num_steps)
    return {
        "positions": positions,
        "integrated": packed(path.shares),
        "log_probability": packed(path.log_probability),
        "baseline": packed(path.baseline),
    }


def _lens(names: _Names, guesses: Guesses, ranked: Ranked) -> Json:
    own = {"probability": packed(ranked.probability), "rank": ranked.rank.flatten().tolist()}
    return names.guesses(guesses) | own

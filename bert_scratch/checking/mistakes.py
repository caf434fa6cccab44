"""BERT's formulas written again, each with the mistakes that people make in it.

`made` is the set of mistakes to make; if it is empty, every function here equals our component (a
test compares them). A mistake explains a user's numbers if these functions give the same numbers
with it. Weights are those of our components, by name.

Letters: B batch, S sequence, D hidden, H heads, K head size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bert_scratch.model.losses import IGNORED_LABEL

Weights = Mapping[str, Tensor]
Made = Collection[str]

MISTAKES = {
    "gelu_tanh": "tanh GELU: BERT's GELU is x * Phi(x), by erf, not the tanh approximation",
    "gelu_sigmoid": "GELU as x * sigmoid(1.702 x): BERT's is x * Phi(x), by erf",
    "gelu_relu": "ReLU in place of GELU",
    "gelu_without_root": "erf(x) in place of erf(x / sqrt(2)) in GELU",
    "eps_1e-5": "LayerNorm with eps 1e-5 (torch's default): BERT has 1e-12",
    "unbiased_variance": "LayerNorm with the unbiased variance (torch.var's default): divide by D",
    "norm_over_sequence": "LayerNorm over the sequence: normalise each position over D",
    "transposed_weight": "transposed weight: torch's nn.Linear computes x @ weight.T + bias",
    "swapped_query_key": "query and key swapped: scores[i, j] is query i times key j",
    "swapped_key_value": "key and value swapped",
    "missing_scale": "missing scale: divide the scores by sqrt(K)",
    "scale_by_hidden": "scale by sqrt(D): divide the scores by the root of the head size, sqrt(K)",
    "mask_on_queries": "mask on queries: the bias belongs to the keys, the last axis of the scores",
    "mask_sign": "mask with the wrong sign: the bias is added, and very negative where forbidden",
    "mask_ignored": "mask ignored: the bias has to be added to the scores",
    "softmax_over_queries": "softmax over the queries: each query's weights sum to 1, dim=-1",
    "softmax_over_heads": "softmax over the heads: each query's weights sum to 1, dim=-1",
    "heads_interleaved": "heads split the wrong way: D is H blocks of K, so view(B, S, H, K)",
    "heads_viewed": "heads split by a view alone: view(B, S, H, K), then transpose(1, 2)",
    "heads_not_merged": "heads merged by a view alone: transpose(1, 2) first, then reshape",
    "missing_output": "missing output projection after the heads",
    "missing_activation": "missing activation between the two matrices",
    "activation_on_output": "activation after the second matrix, where there is none",
    "pre_norm": "pre-norm: BERT normalises after the residual, LayerNorm(x + Sublayer(x))",
    "norm_before_residual": "LayerNorm before the residual is added: LayerNorm(x + Sublayer(x))",
    "missing_attention_residual": "missing residual around attention",
    "missing_feed_forward_residual": "missing residual around the feed-forward block",
    "residual_of_input": "the second residual adds the layer's input: it adds what it is given",
    "missing_attention_norm": "missing LayerNorm after attention",
    "missing_feed_forward_norm": "missing LayerNorm after the feed-forward block",
    "swapped_norms": "the two LayerNorms swapped",
    "token_types_ignored": "token types ignored: add their embedding",
    "token_type_none": "without token types nothing is added: None stands for type 0, whose row is",
    "positions_off_by_one": "positions off by one: they count from 0",
    "positions_ignored": "positions ignored: add their embedding",
    "scaled_words": "word embeddings times sqrt(D), as in the translation Transformer",
    "missing_norm": "missing LayerNorm",
    "mean_pooled": "mean over the positions: the pooler reads the first one alone",
    "last_position": "last position: the pooler reads the first one",
    "missing_tanh": "missing tanh after the pooler's matrix",
    "missing_bias": "missing bias of the output",
    "labels_inverted": "labels inverted: 0 is 'B follows A', 1 is random",
    "softmax_applied": "softmax applied: logits are wanted",
    "layers_shifted": "shifted layer index: layer i has the weights of layer i + 1",
    "layers_reversed": "layers in reverse order",
    "first_layer_skipped": "shifted layer index: the first layer is skipped",
    "last_layer_skipped": "the last layer is skipped",
    "first_layer_repeated": "the first layer's weights in every layer",
    "untied_decoder": "tied decoder missing: the decoder's matrix is the word embedding itself",
    "mask_inverted": "mask inverted: 1 marks real tokens, 0 padding",
    "mask_not_large": "0 and 1 as a bias: forbidden keys need a very negative number",
    "mean_over_all": "mean over all positions: divide by the labelled ones alone",
    "sum_of_losses": "sum over the positions: divide by the number of labelled ones",
    "softmax_twice": "softmax before a cross-entropy that applies it itself",
    "mean_of_rows": "mean of each row's mean: divide the sum by the count of the whole batch",
    "always_mask": "always [MASK]: 10 % become a random token and 10 % stay",
    "never_random": "no random tokens: 10 % of the chosen become one",
    "labels_everywhere": "labels at every position: only the chosen are predicted, -100 elsewhere",
    "labels_after_masking": "labels taken after masking: they are the tokens that stood there",
    "kept_not_predicted": "the chosen tokens that stay lose their label: they are predicted too",
    "shares_swapped": "the shares swapped: 80 % [MASK], 10 % random, 10 % kept",
}
"""Key -> what the mistake is, and what is right."""


def gelu(x: Tensor, made: Made = ()) -> Tensor:
    """Return x * Phi(x)."""
    if "gelu_relu" in made:
        return x.relu()
    if "gelu_tanh" in made:
        return F.gelu(x, approximate="tanh")
    if "gelu_sigmoid" in made:
        return x * torch.sigmoid(1.702 * x)
    root = 1.0 if "gelu_without_root" in made else math.sqrt(2)
    return 0.5 * x * (1 + torch.erf(x / root))


def layer_norm(x: Tensor, weights: Weights, made: Made = (), name: str = "") -> Tensor:
    """Normalise [B, S, D] over D, then scale and shift."""
    axis = 1 if "norm_over_sequence" in made else -1
    centred = x - x.mean(axis, keepdim=True)
    variance = x.var(axis, keepdim=True, correction=int("unbiased_variance" in made))
    eps = 1e-5 if "eps_1e-5" in made else 1e-12
    return centred / (variance + eps).sqrt() * weights[f"{name}weight"] + weights[f"{name}bias"]


def linear(x: Tensor, weights: Weights, name: str, made: Made = ()) -> Tensor:
    """Return x W^T + b; square matrices may be transposed by mistake."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    size = weight.shape[1]
    if "transposed_weight" in made and len(weight) in (size, 3 * size):  # query, key, value in one
        weight = torch.cat([square.T for square in torch.split(weight, size)])
    return F.linear(x, weight, bias)


def attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, made: Made = ()
) -> Tensor:
    """Return softmax(Q K^T / sqrt(K) + bias) V of [B, H, S, K]."""
    if "swapped_query_key" in made:
        query, key = key, query
    if "swapped_key_value" in made:
        key, value = value, key
    heads, size = query.shape[1], query.shape[3]
    scale = size * heads if "scale_by_hidden" in made else size
    scores = query @ key.transpose(-1, -2)
    if "missing_scale" not in made:
        scores = scores / math.sqrt(scale)
    added = torch.zeros(()) if bias is None or "mask_ignored" in made else bias
    if "mask_sign" in made:
        added = -added
    if "mask_on_queries" in made and added.ndim:
        added = added.transpose(-1, -2)
    axis = -2 if "softmax_over_queries" in made else 1 if "softmax_over_heads" in made else -1
    return (scores + added).softmax(axis) @ value


def multi_head_attention(
    x: Tensor, bias: Tensor | None, weights: Weights, heads: int, made: Made = (), name: str = ""
) -> Tensor:
    """Map [B, S, D] to [B, S, D] by H heads."""
    batch, length, size = x.shape
    apart = "heads_interleaved" in made

    def split(projected: Tensor) -> Tensor:
        if "heads_viewed" in made:
            return projected.reshape(batch, heads, length, -1)
        if apart:
            return projected.reshape(batch, length, -1, heads).permute(0, 3, 1, 2)
        return projected.reshape(batch, length, heads, -1).transpose(1, 2)

    query, key, value = linear(x, weights, f"{name}query_key_value", made).chunk(3, dim=-1)
    mixed = attention(split(query), split(key), split(value), bias, made)
    if "heads_not_merged" not in made:
        mixed = mixed.permute(0, 2, 3, 1) if apart else mixed.transpose(1, 2)
    merged = mixed.reshape(batch, length, size)
    return merged if "missing_output" in made else linear(merged, weights, f"{name}output", made)


def feed_forward(x: Tensor, weights: Weights, made: Made = (), name: str = "") -> Tensor:
    """Map [B, S, D] to [B, S, D], each position separately."""
    wide = linear(x, weights, f"{name}widen", made)
    wide = wide if "missing_activation" in made else gelu(wide, made)
    narrow = linear(wide, weights, f"{name}narrow", made)
    return gelu(narrow, made) if "activation_on_output" in made else narrow


def encoder_layer(
    x: Tensor, bias: Tensor | None, weights: Weights, heads: int, made: Made = (), name: str = ""
) -> Tensor:
    """Attention and feed-forward, each with its residual and LayerNorm."""
    places = ["attention", "feed_forward"]
    norms = places[::-1] if "swapped_norms" in made else places

    def sublayer(i: int, hidden: Tensor) -> Tensor:
        if i == 0:
            return multi_head_attention(hidden, bias, weights, heads, made, f"{name}attention.")
        return feed_forward(hidden, weights, made, f"{name}feed_forward.")

    def norm(i: int, hidden: Tensor) -> Tensor:
        if f"missing_{places[i]}_norm" in made:
            return hidden
        return layer_norm(hidden, weights, made, f"{name}{norms[i]}_layer_norm.")

    hidden = x
    for i, place in enumerate(places):
        carried = x if "residual_of_input" in made else hidden
        if f"missing_{place}_residual" in made:
            carried = torch.zeros(())
        if "pre_norm" in made:
            hidden = carried + sublayer(i, norm(i, hidden))
        elif "norm_before_residual" in made:
            hidden = carried + norm(i, sublayer(i, hidden))
        else:
            hidden = norm(i, carried + sublayer(i, hidden))
    return hidden


def embeddings(
    ids: Tensor, types: Tensor | None, weights: Weights, made: Made = (), name: str = ""
) -> Tensor:
    """Embed [B, S] ids as [B, S, D]: word + type + position, LayerNorm."""
    summed = weights[f"{name}word_embeddings.weight"][ids]
    if "scaled_words" in made:
        summed = summed * math.sqrt(summed.shape[-1])
    skipped = types is None and "token_type_none" in made
    if "token_types_ignored" not in made and not skipped:
        rows = torch.zeros_like(ids) if types is None else types
        summed = summed + weights[f"{name}token_type_embeddings.weight"][rows]
    if "positions_ignored" not in made:
        first = int("positions_off_by_one" in made)
        positions = weights[f"{name}position_embeddings.weight"]
        summed = summed + positions[first : first + ids.shape[1]]
    if "missing_norm" in made:
        return summed
    return layer_norm(summed, weights, made, f"{name}layer_norm.")


def pooler(x: Tensor, weights: Weights, made: Made = (), name: str = "") -> Tensor:
    """Map [B, S, D] to [B, D], from the first position."""
    place = x[:, -1] if "last_position" in made else x[:, 0]
    place = x.mean(1) if "mean_pooled" in made else place
    dense = linear(place, weights, f"{name}dense", made)
    return dense if "missing_tanh" in made else dense.tanh()


def masked_lm_head(x: Tensor, weights: Weights, made: Made = (), name: str = "") -> Tensor:
    """Map [B, S, D] to [B, S, V]."""
    hidden = linear(x, weights, f"{name}dense", made)
    hidden = hidden if "missing_activation" in made else gelu(hidden, made)
    if "missing_norm" not in made:
        hidden = layer_norm(hidden, weights, made, f"{name}layer_norm.")
    logits = F.linear(hidden, weights[f"{name}decoder.weight"])
    logits = logits if "missing_bias" in made else logits + weights[f"{name}decoder.bias"]
    return logits.softmax(-1) if "softmax_applied" in made else logits


def next_sentence_head(pooled: Tensor, weights: Weights, made: Made = ()) -> Tensor:
    """Map [B, D] to [B, 2]."""
    logits = linear(pooled, weights, "classifier", made)
    logits = logits.softmax(-1) if "softmax_applied" in made else logits
    return logits.flip(-1) if "labels_inverted" in made else logits


def encoder(
    ids: Tensor,
    types: Tensor | None,
    bias: Tensor | None,
    weights: Weights,
    heads: int,
    made: Made = (),
    name: str = "",
) -> Tensor:
    """Embed [B, S] ids and run every layer: [B, S, D]."""
    pattern = f"{name}layers."
    numbers = sorted(
        {int(key[len(pattern) :].split(".")[0]) for key in weights if key.startswith(pattern)}
    )
    if "layers_shifted" in made:
        numbers = numbers[1:] + numbers[:1]
    if "layers_reversed" in made:
        numbers = numbers[::-1]
    if "first_layer_repeated" in made:
        numbers = numbers[:1] * len(numbers)
    last = len(numbers) - ("last_layer_skipped" in made)
    hidden = embeddings(ids, types, weights, made, f"{name}embeddings.")
    for number in numbers[int("first_layer_skipped" in made) : last]:
        hidden = encoder_layer(hidden, bias, weights, heads, made, f"{pattern}{number}.")
    return hidden


def key_bias(mask: Tensor, made: Made = ()) -> Tensor:
    """Turn a mask [B, S] of ones and zeros into a bias [B, 1, 1, S]."""
    forbidden = mask != 0 if "mask_inverted" in made else mask == 0
    if "mask_not_large" in made:
        return mask[:, None, None, :].float()
    bias = torch.zeros(mask.shape).masked_fill(forbidden, -1e9)
    bias = -bias if "mask_sign" in made else bias
    return bias[:, None, :, None] if "mask_on_queries" in made else bias[:, None, None, :]


def masked_lm_loss(logits: Tensor, labels: Tensor, made: Made = ()) -> Tensor:
    """Return the mean cross-entropy of [B, S, V] over the labelled positions of [B, S]."""
    if "softmax_twice" in made:
        logits = logits.softmax(-1)
    flat = logits.flatten(0, 1), labels.flatten()
    losses = F.cross_entropy(*flat, ignore_index=IGNORED_LABEL, reduction="none")
    losses, chosen = losses.view(labels.shape), labels != IGNORED_LABEL
    if "sum_of_losses" in made:
        return losses.sum()
    if "mean_over_all" in made:
        return losses.mean()
    if "mean_of_rows" in made:
        return (losses.sum(1) / chosen.sum(1)).mean()
    return losses.sum() / chosen.sum()


def mask_tokens(
    ids: Tensor, chosen: Tensor, draw: Tensor, random_ids: Tensor, mask_id: int, made: Made = ()
) -> tuple[Tensor, Tensor]:
    """Replace 80 % of the chosen by [MASK] and 10 % by random tokens; return ids and labels."""
    masked, random = draw < 0.8, (draw >= 0.8) & (draw < 0.9)
    if "shares_swapped" in made:
        masked, random = draw < 0.1, (draw >= 0.1) & (draw < 0.2)
    if "always_mask" in made:
        masked, random = torch.ones_like(chosen), torch.zeros_like(chosen)
    if "never_random" in made:
        random = torch.zeros_like(chosen)
    changed = torch.where(chosen & masked, mask_id, ids)
    changed = torch.where(chosen & random, random_ids, changed)
    predicted = chosen & (masked | random) if "kept_not_predicted" in made else chosen
    stood = changed if "labels_after_masking" in made else ids
    labels = stood if "labels_everywhere" in made else stood.masked_fill(~predicted, IGNORED_LABEL)
    return changed, labels

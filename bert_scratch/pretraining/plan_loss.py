"""The expected held-out loss of a model of a given size, by a law fitted to measured runs.

    loss = unigram entropy x (FLOOR + SEEN / learned ** POWER)
    1 / learned = (1 / (tokens + head start) + 1 / (USEFUL_TOKENS_PER_PARAMETER x encoder's parameters))
                  x sqrt(0.15 / share of the tokens that is predicted x vocabulary / 8192)

The form is that of Kaplan et al. 2020 (equation 1.5): while a model sees few tokens for its size,
its size does not matter. The loss is relative to that of word frequencies alone, so that corpora
and vocabularies are comparable.
"""

from __future__ import annotations

import math

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts

FLOOR, SEEN = 0.1875, 37.93
"""Fitted to the 34 runs of benchmarks/scaling.jsonl (tiny and mini, 2 to 100 M tokens, vocabularies
of 4,096 to 16,384), which the law misses by 0.12 nats (root mean square), by 0.29 at most and by
0.23 those with today's defaults. Fitted without one of four corpora it misses 31 of the 34 runs by
0.22 at most and three of the shortest by up to 0.39."""
HEAD_START, USUAL_WIDTH, WIDEST = 4.75e6, 128, 256
"""Tokens of training that word vectors counted from the corpus are worth to a model of the usual
width; to a wider one in proportion, up to the widest measured, since it learns drawn ones more
slowly. Fitted with the others; of the powers 0, 0.5, 1, 1.5 and 2 of the width, 1 fits best."""
EARNED = 2.0
"""The head start is at most this many times the tokens seen: vectors alone predict nothing. 2.5
fits as well (0.11, not 0.12), but puts mini within 0.1 nats of tiny after five minutes of two
cores, where it was 0.30 behind; 1.5 and 3 fit worse."""
USUAL_SHARE, USUAL_VOCABULARY = 0.15, 8192
"""The worth of more predictions, and the cost of a larger vocabulary, grow as the square root; the
best-fitting exponent is 0.50 for the vocabulary."""
POWER = 0.28
"""Exponent from Hoffmann et al. 2022, equation 10."""
USEFUL_TOKENS_PER_PARAMETER = 20 / 0.15
"""Tokens per parameter beyond which size limits learning: the 20 of Hoffmann et al. 2022, counting
only the 15 % of tokens that give a loss. Not measured here."""
PASSES_WORTH_MORE = 15.4
"""Each further pass over a text is worth less: this many are worth 1 - 1 / e of as much new text.
From Muennighoff et al. 2023, equation 5."""
LARGEST_MISS = 0.29
"""Largest error of the expected loss, in nats, on the runs it was fitted to."""


def layer_matrix_parameters(shape: BertConfig) -> int:
    """Count the weights of the encoder's matrices, which process each token."""
    d, f = shape.hidden_size, shape.intermediate_size
    return shape.num_hidden_layers * (4 * d * d + 2 * d * f)


def expected_loss(
    shape: BertConfig,
    *,
    tokens: float,
    facts: CorpusFacts,
    masked_lm_prob: float,
    counted_vectors: bool,
) -> float:
    """Return the expected final held-out masked-token loss of a run, in nats.

    Args:
        shape: of the model.
        tokens: total tokens that the run sees.
        facts: of the corpus.
        masked_lm_prob: the share of tokens that the run predicts; evaluation always uses 15 %.
        counted_vectors: whether its word embeddings start from vectors counted from the corpus.
    """
    learned = tokens_learned(
        shape,
        tokens=tokens,
        distinct_tokens=facts.train_tokens,
        vocab_size=facts.vocab_size,
        masked_lm_prob=masked_lm_prob,
        head_start=HEAD_START if counted_vectors else 0.0,
    )
    return facts.unigram_entropy * min(1.0, FLOOR + SEEN * math.pow(learned, -POWER))


def tokens_learned(
    shape: BertConfig,
    *,
    tokens: float,
    distinct_tokens: int,
    vocab_size: int,
    masked_lm_prob: float,
    head_start: float,
) -> float:
    """Return how many tokens of new text teach an unlimited model with usual settings as much.

    Args:
        shape: of the model.
        tokens: total tokens that the run sees.
        distinct_tokens: of the text.
        vocab_size: entries of its vocabulary.
        masked_lm_prob: the share of the tokens that the run predicts.
        head_start: tokens that the initial vectors are worth at the usual width, once earned.
    """
    start = head_start * min(shape.hidden_size, WIDEST) / USUAL_WIDTH
    start = min(start, EARNED * tokens)
    worth = max(1.0, tokens_worth(tokens, distinct_tokens) + start)
    seen = 1 / (1 / worth + 1 / (USEFUL_TOKENS_PER_PARAMETER * layer_matrix_parameters(shape)))
    return seen * math.sqrt(masked_lm_prob / USUAL_SHARE * USUAL_VOCABULARY / vocab_size)


def tokens_worth(tokens: float, distinct_tokens: int) -> float:
    """Return how many tokens of new text are worth as much as these tokens with repeats."""
    again = max(0.0, tokens / max(1, distinct_tokens) - 1)
    if again == 0:
        return tokens
    return distinct_tokens * (1 + PASSES_WORTH_MORE * (1 - math.exp(-again / PASSES_WORTH_MORE)))

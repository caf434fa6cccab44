"""The held-out loss that a model of a size is expected to reach, by a law fitted to measured runs.

    loss = unigram entropy x (FLOOR + SEEN / learned ** POWER)
    1 / learned = (1 / tokens + 1 / (TOKENS_PER_PARAMETER x parameters of the encoder))
                  x sqrt(0.15 / share of the tokens that is predicted)

The form is that of Kaplan et al. 2020 (equation 1.5): while a model sees few tokens for its size,
its size does not matter. The loss is told as a share of what word frequencies alone would pay, so
that corpora and vocabularies compare.
"""

from __future__ import annotations

import math

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts

FLOOR, SEEN = 0.1851, 39.09
"""Fitted to six runs that predict 15 % of the tokens: tiny on Wikipedia and on documentation, mini
for an hour on English and on Chinese Wikipedia (docs/benchmarks.md), which the law misses by 0.16
nats (root mean square). Where 30 % are predicted, a token teaches as much as 1.42: two pairs of
runs of 4,000 steps. Two hours of one core on Chinese, which it was not fitted to, it misses by 0.05
(tiny, 100 M tokens) and 0.12 (mini, 28 M)."""
USUAL_SHARE = 0.15
POWER = 0.28
"""Of Hoffmann et al. 2022, equation 10."""
TOKENS_PER_PARAMETER = 20 / 0.15
"""From which on size limits what is learned: the 20 of Hoffmann et al. 2022, of the 15 % of tokens
that give a loss. Not measured here."""
PASSES_WORTH_MORE = 15.4
"""Each further pass over a text is worth less: so many are worth 1 - 1 / e of as much new text.
Of Muennighoff et al. 2023, equation 5."""
TYPICAL_ERROR = 0.25
"""Of the expected loss, in nats."""


def encoder_parameters(shape: BertConfig) -> int:
    """Count the weights of the encoder's matrices: what a token is worked on with."""
    d, f = shape.hidden_size, shape.intermediate_size
    return shape.num_hidden_layers * (4 * d * d + 2 * d * f)


def expected_loss(
    shape: BertConfig, *, tokens: float, facts: CorpusFacts, masked_lm_prob: float
) -> float:
    """Return the held-out masked-token loss, in nats, that a run is expected to end with.

    Args:
        shape: of the model.
        tokens: the run sees in all.
        facts: of the corpus.
        masked_lm_prob: the share of the tokens that the run predicts; held out it is 15 % for all.
    """
    learned = tokens_learned(
        shape,
        tokens=tokens,
        distinct_tokens=facts.train_tokens,
        masked_lm_prob=masked_lm_prob,
    )
    return facts.unigram_entropy * min(1.0, FLOOR + SEEN * math.pow(learned, -POWER))


def tokens_learned(
    shape: BertConfig, *, tokens: float, distinct_tokens: int, masked_lm_prob: float
) -> float:
    """Return how many tokens of new text, 15 % of them predicted, teach any model as much."""
    worth = max(1.0, tokens_worth(tokens, distinct_tokens))
    seen = 1 / (1 / worth + 1 / (TOKENS_PER_PARAMETER * encoder_parameters(shape)))
    return seen * math.sqrt(masked_lm_prob / USUAL_SHARE)


def tokens_worth(tokens: float, distinct_tokens: int) -> float:
    """Return how many tokens of new text are worth as much as tokens with repeats."""
    again = max(0.0, tokens / max(1, distinct_tokens) - 1)
    if again == 0:
        return tokens
    return distinct_tokens * (1 + PASSES_WORTH_MORE * (1 - math.exp(-again / PASSES_WORTH_MORE)))

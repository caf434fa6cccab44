"""The held-out loss that a model of a size is expected to reach, by a law fitted to a grid.

The law is of the form of Hoffmann et al. 2022 (equation 10), with the loss told as a share of
what word frequencies alone would pay, so that corpora and vocabularies compare, and with text that
is seen again counted for less, as Muennighoff et al. 2023 (equation 5) do.
"""

from __future__ import annotations

import math

from bert_scratch.config import BertConfig
from bert_scratch.pretraining.corpus_facts import CorpusFacts

# loss / unigram entropy = FLOOR + SIZE / parameters ** SIZE_POWER + SEEN / tokens ** SEEN_POWER
FLOOR = 0.28
SIZE, SIZE_POWER = 8.6, 0.34
SEEN, SEEN_POWER = 775.0, 0.5
PASSES_WORTH_MORE = 15.4
"""Each further pass over a text is worth less: so many are worth 1 - 1 / e of as much new text."""
TYPICAL_ERROR = 0.25
"""Of the expected loss, in nats."""


def encoder_parameters(shape: BertConfig) -> int:
    """Count the weights of the encoder's matrices: what a token is worked on with."""
    d, f = shape.hidden_size, shape.intermediate_size
    return shape.num_hidden_layers * (4 * d * d + 2 * d * f)


def expected_loss(shape: BertConfig, *, tokens: float, facts: CorpusFacts) -> float:
    """Return the held-out masked-token loss, in nats, that a run is expected to end with.

    Args:
        shape: of the model.
        tokens: the run sees in all.
        facts: of the corpus.
    """
    size: float = SIZE / encoder_parameters(shape) ** SIZE_POWER
    seen: float = SEEN / max(1.0, tokens_worth(tokens, facts.train_tokens)) ** SEEN_POWER
    return facts.unigram_entropy * min(1.0, FLOOR + size + seen)


def tokens_worth(tokens: float, distinct_tokens: int) -> float:
    """Return how many tokens of new text are worth as much as tokens with repeats."""
    again = max(0.0, tokens / max(1, distinct_tokens) - 1)
    if again == 0:
        return tokens
    return distinct_tokens * (1 + PASSES_WORTH_MORE * (1 - math.exp(-again / PASSES_WORTH_MORE)))

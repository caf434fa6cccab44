r"""The loss of masked tokens, the solution.

The mean of -log softmax(logits)[label] over the positions that have a label; -100 marks those
that have none.

Shapes: logits [B, S, V], labels [B, S] -> []. The mean is over all labelled positions of the
batch together.

    bert-scratch check --as masked_lm_loss \
        --component examples/exercises/solutions/masked_lm_loss.py:masked_lm_loss
"""

import torch.nn.functional as F


def masked_lm_loss(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)

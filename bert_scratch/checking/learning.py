"""Train the tiny model with a user's part in it: does its loss fall as with ours?"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bert_scratch.checking.parts import CONFIG, Part, weights_of, whole_model
from bert_scratch.checking.strangers import Stranger, give_weights, make
from bert_scratch.model.initial_weights import initialize
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_mean

STEPS, ROWS, LENGTH, WINDOW = 60, 16, 9, 10
_LEARNING_RATE = 1e-2
_MASK_ID = 4


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Losses in nats, each a mean over WINDOW steps."""

    first: float
    last: float
    ours_first: float
    ours_last: float

    @property
    def as_ours(self) -> bool:
        """Whether the loss fell by at least nine tenths as much as with ours."""
        return self.first - self.last >= 0.9 * (self.ours_first - self.ours_last)

    def __str__(self) -> str:
        return (
            f"loss {self.first:.2f} -> {self.last:.2f} in {STEPS} steps; with ours "
            f"{self.ours_first:.2f} -> {self.ours_last:.2f}"
        )


def compare_learning(thing: type[nn.Module], part: Part) -> Learned:
    """Train the tiny model with theirs and with ours, from the same weights on the same batches.

    Args:
        thing: the user's class.
        part: the component that it replaces everywhere in the model.
    """
    ours = whole_model(part)
    torch.manual_seed(5)
    initialize(ours, CONFIG)
    theirs: nn.Module = copy.deepcopy(ours)
    assert part.component is not None
    if part.component is type(ours):
        theirs = _replaced(theirs, thing, part)
    else:
        for name, module in list(theirs.named_modules()):
            if type(module) is part.component:
                owner, _, attribute = name.rpartition(".")
                setattr(theirs.get_submodule(owner), attribute, _replaced(module, thing, part))
        _tie_decoder(theirs)
    mine, other = _train(ours), _train(theirs)
    mean = [sum(losses) / WINDOW for losses in (other[:WINDOW], other[-WINDOW:])]
    mean += [sum(losses) / WINDOW for losses in (mine[:WINDOW], mine[-WINDOW:])]
    return Learned(first=mean[0], last=mean[1], ours_first=mean[2], ours_last=mean[3])


def _replaced(module: nn.Module, thing: type[nn.Module], part: Part) -> Stranger:
    """Return the user's component with the weights of one of ours."""
    stranger = make(thing, part)
    give_weights(stranger, weights_of(module, part), part)
    return Stranger(stranger, part)


def _tie_decoder(model: nn.Module) -> None:
    """Tie the decoder to the word embedding again, in whichever modules they are."""
    size = (CONFIG.vocab_size, CONFIG.hidden_size)
    tables = [p for p in model.get_submodule("bert").parameters() if p.shape == size]
    for module in model.get_submodule("mlm_head").modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.shape == size and len(tables) == 1:
                setattr(module, name, tables[0])


def _train(model: nn.Module) -> list[float]:
    """Return the loss of each step."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE)
    draw = torch.Generator().manual_seed(11)
    losses = []
    for _ in range(STEPS):
        loss = _loss(model, draw)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def _loss(model: nn.Module, draw: torch.Generator) -> Tensor:
    """Return the loss on rows with one token repeated in each half, the same or a different one."""
    tokens = torch.randint(10, 18, (ROWS, 2), generator=draw)
    follows = torch.rand(ROWS, generator=draw) < 0.5
    half = LENGTH // 2
    second = torch.where(follows, tokens[:, 0], tokens[:, 1])
    halves = torch.stack([tokens[:, 0], second], 1).repeat_interleave(half, dim=1)
    ids = torch.cat([torch.full((ROWS, 1), 2), halves], 1)
    hidden = (torch.rand(ids.shape, generator=draw) < 0.2) & (ids != 2)
    hidden[:, 1] = True
    types = (torch.arange(LENGTH) > half).long().expand(ids.shape)
    found = model(ids.masked_fill(hidden, _MASK_ID), types, torch.ones_like(ids))
    scores = found.prediction_logits if hasattr(found, "prediction_logits") else found.logits
    labels = ids.masked_fill(~hidden, IGNORED_LABEL)
    loss = cross_entropy_mean(scores.flatten(0, 1), labels.flatten())
    if hasattr(found, "seq_relationship_logits"):
        loss = loss + cross_entropy_mean(found.seq_relationship_logits, 1 - follows.long())
    return loss

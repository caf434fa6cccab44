"""Fixtures of the model tests: small configurations with random weights, ours and transformers'."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bert_scratch.config import BertConfig
from bert_scratch.model.huggingface import config_to_hf, load_hf


@pytest.fixture
def config() -> BertConfig:
    """A different prime for every dimension that allows it (D = H x K)."""
    return BertConfig(
        vocab_size=61,
        hidden_size=21,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=29,
        max_position_embeddings=23,
    )


@pytest.fixture(scope="session")
def randomize() -> Callable[[nn.Module, float], nn.Module]:
    """Give every parameter, biases and LayerNorm too, weights large enough to matter."""

    def fill(module: nn.Module, deviation: float = 0.15) -> nn.Module:
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in module.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(parameter + deviation * noise)
        return module.eval()

    return fill


@pytest.fixture
def inputs() -> Callable[..., dict[str, Tensor]]:
    """Random ids, segments and a padding mask in which every row has another length."""

    def make(config: BertConfig, rows: int = 5, width: int = 17) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(11)
        lengths = torch.linspace(width, 1, rows).long()[:, None]
        shape = (rows, width)
        return {
            "input_ids": torch.randint(0, config.vocab_size, shape, generator=generator),
            "token_type_ids": torch.randint(0, config.type_vocab_size, shape, generator=generator),
            "attention_mask": (torch.arange(width) < lengths).long(),
        }

    return make


@pytest.fixture(scope="session")
def transformers() -> types.ModuleType:
    """The reference implementation."""
    module: types.ModuleType = pytest.importorskip("transformers")
    return module


@pytest.fixture
def twins(
    transformers: types.ModuleType, randomize: Callable[[nn.Module, float], nn.Module]
) -> Callable[..., tuple[Any, Any]]:
    """Make one of our models and transformers' of the same name with the same random weights."""

    def make(ours_class: type[nn.Module], config: BertConfig) -> tuple[Any, Any]:
        name = ours_class.__name__
        values = config_to_hf(config, name)
        shape = transformers.BertConfig(**values, attn_implementation="eager")
        theirs = randomize(getattr(transformers, name)(shape), 0.15)
        ours = ours_class(config).eval()
        load_hf(ours, theirs)
        return ours, theirs

    return make

"""A small model, a batch for it, and a tokenizer stand-in that writes one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining


@pytest.fixture
def bert_config() -> BertConfig:
    return BertConfig(
        vocab_size=61,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


@pytest.fixture
def model(bert_config: BertConfig) -> BertForPreTraining:
    torch.manual_seed(0)
    return BertForPreTraining(bert_config).train()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([16, 9, 12, 5, 16, 7])
    mask = (torch.arange(16) < lengths[:, None]).long()
    ids = torch.randint(5, 61, (6, 16), generator=generator) * mask
    # a different number of predictions in every row, so that means of means differ
    positions = torch.tensor([1, 2, 3, 4, 5, 17, 34, 36, 49, 66, 70, 75, 82])
    return Batch(
        input_ids=ids,
        token_type_ids=torch.zeros_like(ids),
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=ids.flatten()[positions],
        next_sentence_label=torch.tensor([0, 1, 1, 0, 1, 0]),
        example_ids=torch.zeros(6, 2, dtype=torch.int64),
        num_tokens=int(lengths.sum()),
    )


class WritesOneFile:
    def save_pretrained(self, folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")


@pytest.fixture
def tokenizer() -> WritesOneFile:
    return WritesOneFile()

"""Pins 20 training steps against transformers with torch's AdamW and its own linear schedule: the
same batches give the same weights. CPU only, needs transformers:
`pytest tests/integration/test_training_parity.py`."""

from __future__ import annotations

import pytest
import torch

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import config_to_hf, to_hf
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.schedule import learning_rate_at
from bert_scratch.training.step import Updater

transformers = pytest.importorskip("transformers")

STEPS, WARMUP, PEAK, VOCAB, ROWS, WIDTH = 20, 5, 5e-3, 203, 6, 24


def make_batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    lengths = torch.randint(6, WIDTH + 1, (ROWS,), generator=generator)
    mask = (torch.arange(WIDTH) < lengths[:, None]).long()
    ids = torch.randint(5, VOCAB, (ROWS, WIDTH), generator=generator) * mask
    chosen = (torch.rand(ROWS, WIDTH, generator=generator) < 0.2) & (mask == 1)
    positions = chosen.flatten().nonzero()[:, 0]
    labels = torch.randint(5, VOCAB, (len(positions),), generator=generator)
    return Batch(
        input_ids=ids,
        token_type_ids=((torch.arange(WIDTH) > lengths[:, None] // 2) & (mask == 1)).long(),
        attention_mask=mask,
        masked_positions=positions,
        masked_labels=labels,
        next_sentence_label=torch.randint(0, 2, (ROWS,), generator=generator),
        example_ids=torch.zeros(ROWS, 2, dtype=torch.int64),
        num_tokens=int(lengths.sum()),
    )


def theirs_after_training(config: BertConfig, start: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            **config_to_hf(config, "BertForPreTraining"), attn_implementation="eager"
        )
    ).train()
    model.load_state_dict(start, strict=False)
    plain = [p for n, p in model.named_parameters() if "bias" in n or "LayerNorm" in n]
    others = [p for n, p in model.named_parameters() if not ("bias" in n or "LayerNorm" in n)]
    optimizer = torch.optim.AdamW(
        [{"params": others, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=PEAK,
        eps=1e-6,
    )
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    for step in range(STEPS):
        batch = make_batch(step)
        labels = torch.full((ROWS * WIDTH,), -100)
        labels[batch.masked_positions] = batch.masked_labels
        model(
            input_ids=batch.input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
            labels=labels.view(ROWS, WIDTH),
            next_sentence_label=batch.next_sentence_label,
        ).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("micro_batch_size", [6, 2])
def test_twenty_steps_equal_transformers(micro_batch_size: int) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForPreTraining(config).train()
    theirs = theirs_after_training(
        config, {k: v.clone() for k, v in to_hf(model.state_dict(), config).items()}
    )
    optimizer = build_optimizer(
        model,
        learning_rate=PEAK,
        weight_decay=0.01,
        betas=(0.9, 0.999),
        epsilon=1e-6,
        bias_correction=True,
    )
    updater = Updater(
        model=model,
        optimizer=optimizer,
        objective=PRETRAINING,
        runtime=Runtime(device=torch.device("cpu"), dtype=torch.float32, num_threads=1),
        seed=0,
        micro_batch_size=micro_batch_size,
        max_grad_norm=1.0,
    )
    for step in range(STEPS):
        rate = learning_rate_at(
            step,
            peak=PEAK,
            num_warmup_steps=WARMUP,
            num_train_steps=STEPS,
            schedule="linear",
        )
        updater.update(make_batch(step), step=step, learning_rate=rate)
    expected = theirs.state_dict()
    worst = max(
        float((tensor - expected[name]).abs().max())
        for name, tensor in to_hf(model.state_dict(), config).items()
    )
    print(f"largest difference of any weight after {STEPS} steps: {worst:.2e}")
    assert worst <= 1e-5

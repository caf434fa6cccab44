"""Pins what is made of the held-out loss: the best model kept, a rise told, a strange start told.
CPU only: `pytest tests/pretraining/test_evaluation_history.py`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.evaluation_history import (
    EvaluationHistory,
    expected_first_loss,
    strange_first_loss,
)
from bert_scratch.training.loop import Progress
from bert_scratch.training.metrics import Display, MetricsLog

SHAPE = {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
CONFIG = BertConfig(vocab_size=40, hidden_size=8, max_position_embeddings=8, **SHAPE)


class NoTokenizer:
    def save_pretrained(self, folder: Path) -> None:
        pass


Evaluate = Callable[[int, float], None]


@pytest.fixture
def history_at(tmp_path: Path) -> Callable[[int], EvaluationHistory]:
    def at(step: int) -> EvaluationHistory:
        log = MetricsLog(tmp_path / "metrics.jsonl", keep_through_step=step)
        return EvaluationHistory(log, Display(first_step=step), tmp_path / "best", step=step)

    return at


def add(history: EvaluationHistory, step: int, loss: float) -> None:
    model = BertForPreTraining(CONFIG)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight.fill_(step)
    history.add(
        Progress(step=step),
        {"loss": loss, "mlm_loss": loss},
        num_train_steps=100,
        model=model,
        tokenizer=NoTokenizer(),
    )


def weight(folder: Path) -> float:
    kept = BertForPreTraining.from_pretrained(folder)
    return float(kept.bert.embeddings.word_embeddings.weight[1, 0].item())


def test_model_of_the_lowest_loss_is_kept_but_not_the_untrained(
    history_at: Callable[[int], EvaluationHistory],
) -> None:
    history = history_at(0)
    add(history, 0, 1.0)
    assert not history.best.exists()
    for step, loss in ((10, 4.0), (20, 3.0), (30, 3.5), (40, 3.0)):
        add(history, step, loss)
    assert (history.best_step(), history.best_loss()) == (20, 3.0)
    assert weight(history.best) == 20.0
    assert [path.name for path in history.best.parent.glob("best*")] == ["best"]


def test_best_model_is_kept_before_its_evaluation_is_logged(
    history_at: Callable[[int], EvaluationHistory], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = history_at(0)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MetricsLog, "append", killed)
        add(history, 10, 4.0)
    again = history_at(10)
    assert again.best_step() == 10 and not again.is_evaluated(10)
    add(again, 10, 4.0)
    assert history_at(10).is_evaluated(10) and weight(again.best) == 10.0


def test_resumed_run_judges_as_before_and_forgets_what_comes_later(
    history_at: Callable[[int], EvaluationHistory],
) -> None:
    history = history_at(0)
    for step, loss in ((10, 4.0), (20, 3.0)):
        add(history, step, loss)
    resumed = history_at(25)
    assert resumed.best_step() == 20 and resumed.is_evaluated(20)
    earlier = history_at(15)
    assert earlier.best_step() == -1 and earlier.is_evaluated(10) and not earlier.is_evaluated(20)
    add(earlier, 20, 3.0)
    assert earlier.best_step() == 20


def test_rising_loss_is_told_once_for_every_three_rises(
    history_at: Callable[[int], EvaluationHistory], capsys: pytest.CaptureFixture[str]
) -> None:
    history = history_at(0)
    told = []
    for step, loss in enumerate((3.0, 3.1, 3.2, 3.3, 3.4, 3.2, 3.3, 3.4), start=1):
        add(history, step, loss)
        told.append("has risen 3 evaluations" in capsys.readouterr().out)
    assert told == [False, False, False, True, False, False, False, False]


def test_last_line_over_all_examples_is_not_compared(
    history_at: Callable[[int], EvaluationHistory],
) -> None:
    history = history_at(0)
    history.log.append(step=10, split="eval", mlm_loss=1.0, unigram_loss=5.0)
    assert not history_at(10).is_evaluated(10)


def first_losses(config: BertConfig, seed: int) -> dict[str, float]:
    """Return what an evaluation of fresh weights says, on Zipfian tokens."""
    torch.manual_seed(seed)
    model = BertForPreTraining(config).eval()
    chance = 1 / torch.arange(1, config.vocab_size - 4).float()
    ids: Tensor = torch.multinomial(chance, 512, replacement=True).view(16, 32) + 5
    positions = torch.arange(0, 512, 7)
    labels = ids.flatten()[positions].clone()
    ids.view(-1)[positions] = 4
    with torch.no_grad():
        output = model(ids, masked_positions=positions)
    mlm_loss = cross_entropy(output.prediction_logits, labels).item()
    nsp_loss = cross_entropy(output.seq_relationship_logits, torch.arange(16) % 2).item()
    return {"loss": mlm_loss + nsp_loss, "mlm_loss": mlm_loss, "nsp_loss": nsp_loss}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("width", "vocab_size"), [(64, 2000), (128, 8192), (256, 8192)])
def test_fresh_weights_of_our_initialisation_are_not_strange(
    width: int, vocab_size: int, seed: int
) -> None:
    for spread in ((2 * width) ** -0.5, 0.02):
        config = BertConfig.preset(
            "tiny", vocab_size=vocab_size, hidden_size=width, initializer_range=spread
        )
        assert strange_first_loss(config, first_losses(config, seed)) is None


def test_strange_first_losses_are_told() -> None:
    config = BertConfig.preset("tiny", vocab_size=8192, initializer_range=0.02)
    expected = math.log(8192) + 128 * 0.02**2 / 2
    assert expected_first_loss(config, with_pairs=False) == pytest.approx(expected)
    assert strange_first_loss(config, {"loss": expected}) is None
    for wrong in (expected * 0.94, expected * 1.06, math.log(2)):
        assert "fresh weights" in str(strange_first_loss(config, {"loss": wrong}))
    with_pairs = {"loss": expected + math.log(2), "nsp_loss": math.log(2)}
    assert strange_first_loss(config, with_pairs) is None
    counted = 7.0 + 128 * 0.04**2 / 2
    assert strange_first_loss(config, {"loss": counted}, 7.0) is None
    assert strange_first_loss(config, {"loss": 0.7 * counted}, 7.0) is None
    for wrong in (0.4 * counted, 1.06 * counted):
        assert "word frequencies" in str(strange_first_loss(config, {"loss": wrong}, 7.0))
    wide = config.replace(initializer_range=0.5)
    assert strange_first_loss(wide, first_losses(config, 0)) is not None

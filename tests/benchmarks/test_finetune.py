"""Both sides of the fine-tuning benchmark learn the same small set, and each has its epochs timed.
Runs anywhere: `pytest -m slow tests/benchmarks/test_finetune.py`."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pytest
import torch

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer
from bert_scratch.model.heads import BertForPreTraining

WORDS = ("good", "bad", "a", "film", "plot", "the")


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    """Asks for a model that learns in a second which texts have the word good."""
    vocab = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=16,
        initializer_range=0.1,
    )
    tokenizer = build_tokenizer(
        {token: place for place, token in enumerate(vocab)},
        lowercase=True,
        strip_accents=False,
        nfc=False,
    )
    BertForPreTraining(config).save_pretrained(tmp_path / "model", TokenizerFolder(tokenizer))
    draw = random.Random(0)
    for name, num_rows in (("train.tsv", 160), ("eval.tsv", 40)):
        texts = []
        for _ in range(num_rows):
            words = [draw.choice(WORDS[:2]), *draw.choices(WORDS[2:], k=4)]
            draw.shuffle(words)
            texts.append(f"{' '.join(words)}\t{int('good' in words)}\n")
        (tmp_path / name).write_text("sentence\tlabel\n" + "".join(texts))
    return argparse.Namespace(
        model=str(tmp_path / "model"),
        train_file=str(tmp_path / "train.tsv"),
        eval_file=str(tmp_path / "eval.tsv"),
        epochs=5,
        learning_rate=5e-3,
        batch_size=16,
        max_seq_length=16,
        dtype="float32",
        num_threads=1,
        seeds=1,
        json=str(tmp_path / "out.json"),
    )


@pytest.mark.slow
def test_both_sides_learn_the_same_set(
    options: argparse.Namespace,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import finetune as benchmark

    arms = {"ours": benchmark.ours, "transformers": benchmark.theirs}
    results = {name: [benchmark.timed(arm, options, 1)] for name, arm in arms.items()}
    benchmark.report(options, results)
    assert [result["accuracy"] for (result,) in results.values()] == [1.0, 1.0]
    written = json.loads(Path(options.json).read_text())
    assert written["ratio"] > 0 and "times as fast" in capsys.readouterr().out

"""The model card: what a model was trained on and how, and how to use it."""

from __future__ import annotations

from typing import Any

from bert_scratch.pretraining.corpus_facts import CorpusFacts
from bert_scratch.pretraining.evaluate import Evaluation
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.training.loop import Progress
from bert_scratch.training.metrics import duration
from bert_scratch.training.versions import versions

CARD = """---
library_name: transformers
pipeline_tag: fill-mask
tags: [bert, bert-scratch]
---

# A BERT pretrained with bert_scratch

| | |
|---|---|
{table}

Trained on:

{corpus}

(prepared corpus: manifest SHA-256 `{corpus_sha256}`)

## Use

```python
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("path/to/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
```

`SentenceTransformer("path/to/this/folder")` gives the mean of the last layer's states. Positions
past {trained_seq_length} tokens were never trained.

## Settings

```json
{settings}```

Made with {versions}.
"""


def model_card(
    *,
    config: PretrainConfig,
    facts: CorpusFacts,
    evaluation: Evaluation,
    progress: Progress,
    step_of_weights: int,
    sources: list[str],
    num_parameters: int,
    corpus_sha256: str,
    trained_seq_length: int,
) -> str:
    """Return the text of the model folder's `README.md`.

    Args:
        config: resolved settings.
        facts: of the corpus.
        evaluation: over all held-out examples.
        progress: at the end of the run.
        step_of_weights: updates after which the weights were kept.
        sources: the corpus paths as the user gave them, one line each.
        num_parameters: of the model.
        corpus_sha256: of the prepared corpus's manifest.
        trained_seq_length: the longest rows that the model has learned from, before the run too.
    """
    rows: list[tuple[str, Any]] = [
        ("layers / width / heads", _shape(config)),
        ("parameters", f"{num_parameters:,}"),
        ("vocabulary", f"{facts.vocab_size:,} WordPieces"),
        ("train text", f"{facts.train_tokens:,} tokens, {facts.train_documents:,} documents"),
        ("updates", f"{progress.step:,} of {config.train_batch_size} examples"),
        ("weights", _weights(progress.step, step_of_weights)),
        ("tokens seen", f"{progress.tokens:,}"),
        ("training time", duration(progress.elapsed_s)),
        ("held-out masked-token loss", f"{evaluation.mlm_loss:.3f} nats"),
        ("the same of unigram counts", f"{evaluation.unigram_loss:.3f} nats"),
        ("held-out masked-token accuracy", f"{evaluation.mlm_accuracy:.3f}"),
    ]
    if evaluation.nsp_accuracy is not None:
        rows.append(("held-out sentence-pair accuracy", f"{evaluation.nsp_accuracy:.3f}"))
    return CARD.format(
        table="\n".join(f"| {name} | {value} |" for name, value in rows),
        corpus="\n".join(f"- `{source}`" for source in sources),
        corpus_sha256=corpus_sha256,
        trained_seq_length=trained_seq_length,
        settings=config.to_json(),
        versions=", ".join(f"{name} {number}" for name, number in versions().items()),
    )


def _weights(num_train_steps: int, step: int) -> str:
    if step == num_train_steps:
        return "of the last update"
    return f"of update {step:,}: the lowest held-out loss, it rose later"


def _shape(config: PretrainConfig) -> str:
    if config.init_checkpoint is not None:
        return f"those of {config.init_checkpoint}"
    return f"{config.num_hidden_layers} / {config.hidden_size} / {config.num_attention_heads}"

"""Sentence embeddings: vectors of texts whose cosine says how similar their meanings are.

There are three kinds of training file: plain texts, pairs that mean the same (optionally with a
text that does not), and scored pairs. All are evaluated on scored pairs.

Letters: R rows, C texts of a row, S positions, D hidden, K candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from bert_scratch.config import InputError
from bert_scratch.finetuning.finetune_config import FinetuneConfig
from bert_scratch.finetuning.labelled_rows import LabelledText
from bert_scratch.finetuning.regression import Regression
from bert_scratch.finetuning.rows import Row, RowBatch
from bert_scratch.finetuning.sentence_embedding_files import (
    SentenceExample,
    read_sentence_examples,
)
from bert_scratch.finetuning.texts import encode_text
from bert_scratch.inference.pooling import pool_rows
from bert_scratch.model.encoder import BertModel, EncoderOutput
from bert_scratch.model.heads import ModelWithHeads
from bert_scratch.model.losses import cross_entropy_sum
from bert_scratch.model.pretrained_model import PretrainedModel

TEMPERATURE = 0.05
"""Divisor of cosines before the softmax, as in SimCSE; sentence-transformers calls it scale 20."""

TEXTS_A_PASS = 32
"""Texts of similar length that go through the encoder together."""


class BertForSentenceEmbedding(ModelWithHeads):
    """The encoder without a head; a text's vector is the mean of its last layer."""

    def _add_heads(self, initializer: str) -> None:
        """Add none."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> EncoderOutput:
        """Encode [B, S] token ids."""
        output: EncoderOutput = self.bert(input_ids, attention_mask=attention_mask)
        return output


class SentenceEmbedding(Regression):
    """The cosine of two texts' vectors; without scores, texts of other rows are the negatives.

    Source:
        Gao et al. 2021, "SimCSE: simple contrastive learning of sentence embeddings", equations 1
        and 5; Reimers and Gurevych 2019, "Sentence-BERT", for scored pairs. Deviations: the mean
        over tokens replaces [CLS] and its extra layer, and a text identical to the anchor's own
        positive is not a negative.
    """

    model_class = BertForSentenceEmbedding
    may_cut_batches = False
    answers_with = "embed --model path/to/this/folder --input texts.txt --output vectors.npy"

    _largest: float | None = None
    """The largest score in the training file; None if it has no scores."""

    @property
    def elsewhere(self) -> str:
        """The library that such vectors are mostly used with."""
        return '`sentence_transformers.SentenceTransformer("path/to/this/folder")`'

    def read(self, file: str, *, labels_needed: bool) -> list[LabelledText]:
        """Read texts, pairs, triples or scored pairs."""
        return list(read_sentence_examples(file, self.settings, labels_needed=labels_needed))

    def learn(self, examples: Sequence[LabelledText]) -> None:
        """Take the largest score, which stands for the same meaning: it becomes a cosine of 1."""
        if examples[0].label is None:
            if len(examples) < 2:
                raise InputError(
                    f"{examples[0].place}: is the only example; a text is told apart from the "
                    f"others of its batch, so at least two are needed"
                )
            return
        scores = [self.target(example) for example in examples]
        if min(scores) == max(scores):
            raise InputError(
                f"{examples[0].place}: all scores are {scores[0]:g}; leave out that column if the "
                f"pairs mean the same"
            )
        self._largest = max(scores)

    def check_run(
        self,
        config: FinetuneConfig,
        held_out: Sequence[LabelledText],
        test: Sequence[LabelledText] | None,
    ) -> None:
        """Refuse examples that cannot be evaluated, and settings that the task cannot use."""
        for flag, examples in (("--eval-file", held_out), ("--test-file", test or [])):
            for example in examples:
                if example.text_pair is None or (flag == "--eval-file" and example.label is None):
                    kind = "scored pairs: two texts and a score" if "eval" in flag else "pairs"
                    raise InputError(f"{example.place}: {flag} needs {kind}; see --label-column")
        if config.long_text == "window":
            raise InputError("--long-text window: a text has one vector; choose truncate")
        if config.adversarial == "fgm":
            raise InputError(
                f"--adversarial {config.adversarial}: is for tasks with labels; leave it out"
            )
        if not config.merges:
            raise InputError(
                f"--adapter {config.adapter}: the result is a plain encoder; choose lora, which "
                f"merges into one"
            )
        if config.auxiliary_mlm:
            raise InputError(
                f"--auxiliary-mlm {config.auxiliary_mlm:g}: is for tasks with labels; leave it out"
            )
        if self._largest is not None:
            return
        if config.metric == "loss":
            raise InputError("--metric loss: texts without scores have no loss on scored pairs")
        if config.dropout == 0:
            raise InputError(
                "--dropout 0: texts without scores are learnt from under two draws of dropout; "
                "leave it out for 0.1"
            )
        if config.micro_batch_size not in (None, config.train_batch_size):
            raise InputError(
                "--micro-batch-size: each text is told apart from all others of its batch, which "
                "cannot be cut; choose a smaller --train-batch-size"
            )

    @property
    def config_fields(self) -> dict[str, Any]:
        """No label names and no problem type, as there are no classes or scores."""
        return {"id2label": None, "problem_type": None}

    def target(self, example: LabelledText) -> float:
        """Return the score of a pair, scaled so that the largest in the training file is 1."""
        score = super().target(example)
        if score < 0:
            raise InputError(
                f"{example.place}: the score is {score:g}; it must be 0 (nothing in common) or more"
            )
        return score if self._largest is None else score / self._largest

    def encode(self, examples: Sequence[LabelledText], tokenizer: Tokenizer) -> list[Row]:
        """Make a row of all texts of an example; a single text stands twice in its row.

        A single text thus goes through the model twice in a pass, with two draws of dropout.
        """
        of_example = [_texts(example) for example in examples]
        sequences = iter(
            encode_text(
                tokenizer,
                [text for texts in of_example for text in texts],
                max_seq_length=self.settings.row_length,
                long_text=self.settings.long_text,
            )
        )
        rows = []
        for number, (example, texts) in enumerate(zip(examples, of_example, strict=True)):
            own = [next(sequences)[0] for _ in texts]
            is_scored = self._largest is not None and example.label is not None
            rows.append(
                Row(
                    sequences=tuple(own) if len(own) > 1 else (own[0], own[0]),
                    example=number,
                    place=example.place,
                    label=self.target(example) if is_scored else None,
                )
            )
        return rows

    def logits(self, model: nn.Module, batch: RowBatch) -> Tensor:
        """Return [R, C, D], the vectors of all texts, computed in passes of similar length.

        Sentences differ much in length: padded as one, a batch of STS-B would be 62 % padding.
        """
        lengths = np.array([len(s.ids) for row in batch.rows for s in row.sequences])
        order = np.argsort(-lengths, kind="stable")

        def there(texts: npt.NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(texts).to(batch.input_ids.device, non_blocking=True)

        vectors = []
        for start in range(0, len(order), TEXTS_A_PASS):
            texts = order[start : start + TEXTS_A_PASS]
            width, places = int(lengths[texts[0]]), there(texts)
            input_ids = batch.input_ids.flatten(0, 1)[places, :width]
            attention_mask = batch.attention_mask.flatten(0, 1)[places, :width]
            states = model(input_ids, attention_mask).last_hidden_state
            vectors.append(pool_rows(states, attention_mask, "mean"))
        back = there(np.argsort(order))
        return torch.cat(vectors).index_select(0, back).view(*batch.input_ids.shape[:2], -1)

    def logits_sizes(self, batch: RowBatch) -> dict[str, int | None]:
        """Return [R, C, D], a vector for each text."""
        return {"rows": len(batch.rows), "texts": batch.input_ids.shape[1], "width": None}

    def loss(self, logits: Tensor, batch: RowBatch) -> Tensor:
        """Return the summed squared error of the cosines or, without scores, the contrastive loss.

        Args:
            logits: [R, C, D].
            batch: the batch, with or without scores.
        """
        if batch.labels is None:
            return contrastive_loss(logits, batch.input_ids)
        return F.mse_loss(_cosines(logits), batch.labels, reduction="sum")

    def answers(
        self, examples: Sequence[LabelledText], rows: Sequence[Row], logits: Sequence[Tensor]
    ) -> list[float]:
        """Return the cosine of each pair."""
        cosines: list[float] = _cosines(torch.stack(list(logits))).tolist()
        return cosines

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Rank correlation of cosines and scores, the metric of STS-B, and linear correlation."""
        return ("spearman", "pearson")

    def metrics(
        self, examples: Sequence[LabelledText], answers: Sequence[float]
    ) -> dict[str, float]:
        """Compare cosines with scores."""
        values = super().metrics(examples, answers)
        return {name: values[name] for name in self.metric_names}

    def record(self, example: LabelledText, answer: float) -> dict[str, Any]:
        """Return the cosine."""
        return {"cosine": round(answer, 6), "text": example.text, "text_pair": example.text_pair}

    def exported(self, model: PretrainedModel) -> PretrainedModel:
        """Return the encoder; sentence-transformers adds the mean over tokens to a plain BERT."""
        encoder = model.get_submodule("bert")
        assert isinstance(encoder, BertModel)
        return encoder


def contrastive_loss(vectors: Tensor, input_ids: Tensor) -> Tensor:
    """Return [], the cross-entropy of finding each row's second text among those of all rows.

    Args:
        vectors: [R, C, D], of an anchor, a text that means the same and, if C is 3, one that does
            not.
        input_ids: [R, C, S], the token ids of those texts.
    """
    unit = F.normalize(vectors, dim=-1)
    anchors, candidates = unit[:, 0], unit[:, 1:].transpose(0, 1).flatten(0, 1)  # [R, D], [K, D]
    with torch.autocast(vectors.device.type, enabled=False):  # in float32, like every loss
        scores = anchors @ candidates.T / TEMPERATURE
    ids = input_ids[:, 1:].transpose(0, 1).flatten(0, 1)
    is_same = (input_ids[:, 1, None] == ids).all(dim=-1)  # [R, K]
    own = torch.arange(len(vectors), device=vectors.device)
    is_same &= own[:, None] != torch.arange(len(ids), device=vectors.device)
    return cross_entropy_sum(scores.masked_fill(is_same, -torch.inf), own)[0]


def _cosines(vectors: Tensor) -> Tensor:
    """Return [R], the cosines of the first two texts of each row [R, C, D]."""
    return F.cosine_similarity(vectors[:, 0], vectors[:, 1], dim=-1)


def _texts(example: LabelledText) -> list[str]:
    negative = example.negative if isinstance(example, SentenceExample) else None
    return [text for text in (example.text, example.text_pair, negative) if text is not None]

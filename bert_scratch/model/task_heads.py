"""The models for fine-tuning: the encoder, dropout and one linear layer per task.

Letters: B batch, S sequence, D hidden, C classes, K choices, R packed rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor, nn

from bert_scratch.config import InputError, check_choice
from bert_scratch.model.dropout import Dropout
from bert_scratch.model.encoder import EncoderOptions
from bert_scratch.model.heads import LogitsOutput, ModelWithHeads
from bert_scratch.model.initial_weights import initialize
from bert_scratch.model.losses import (
    IGNORED_LABEL,
    binary_cross_entropy_mean,
    cross_entropy_mean,
    squared_error_mean,
)

REGRESSION = "regression"
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
PROBLEM_TYPES = (REGRESSION, SINGLE_LABEL, MULTI_LABEL)


class ModelWithClassifier(ModelWithHeads):
    """The encoder, dropout and a linear layer named `classifier`, which scores classes.

    Args:
        config: the shape; the dropout rate is classifier_dropout, or hidden_dropout_prob if None.
        attention_backend: auto, explicit or sdpa.
        initializer: normal, truncated_normal or mimetic.
        train_pad_row: whether the [PAD] embedding starts random and is trained.
    """

    def _add_heads(self, initializer: str) -> None:
        config = self.config
        rate = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if rate is None else rate)
        self.classifier = nn.Linear(config.hidden_size, self._num_scores())
        initialize(self.classifier, config, initializer)

    def _num_scores(self) -> int:
        """Return the number of outputs of the classifier."""
        return self.config.num_labels


class BertForSequenceClassification(ModelWithClassifier):
    """BERT that assigns a text, or a pair of texts, one class, several classes, or a number.

    `config.problem_type` says which. If it is None, the labels decide, as in transformers: one
    output means regression, integer labels mean a single class, others several.

    Source:
        Devlin et al. 2018, section 4.1; google-research/bert run_classifier.py `create_model`.
    """

    def _add_heads(self, initializer: str) -> None:
        check_choice("problem_type", self.config.problem_type, PROBLEM_TYPES)
        super()._add_heads(initializer)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> LogitsOutput:
        """Encode a batch and score its classes.

        Args:
            input_ids: [B, S] int64.
            token_type_ids: [B, S] int64; None is all 0.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B] int64, or -100 (single label); [B, C] of 0 and 1 (multi label); [B] or
                [B, C] (regression). Packed rows have R in place of B.
            options: the other keyword arguments of `BertModel`.

        Returns:
            Logits [B, C], or [R, C] of packed rows.

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        encoded = self.bert(input_ids, token_type_ids, attention_mask, **options)
        logits = self.classifier(self.dropout(encoded.pooler_output))
        return LogitsOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss [] of logits [B, C]."""
        kind = self.config.problem_type or _problem_type(self.config.num_labels, labels)
        expected = logits.shape[:1] if kind == SINGLE_LABEL else logits.shape
        if labels.numel() != expected.numel():
            raise InputError(
                f"labels for {kind} must be {list(expected)}; got {list(labels.shape)}"
            )
        if kind == SINGLE_LABEL:
            return cross_entropy_mean(logits, labels.flatten())
        mean = squared_error_mean if kind == REGRESSION else binary_cross_entropy_mean
        return mean(logits, labels.reshape(logits.shape))


def _problem_type(num_labels: int, labels: Tensor) -> str:
    """Return the problem type when the configuration does not say."""
    if num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if labels.is_floating_point() else SINGLE_LABEL


class BertForTokenClassification(ModelWithClassifier):
    """BERT that assigns every token a class, for named entities or parts of speech.

    Source:
        Devlin et al. 2018, section 5.3.
    """

    HAS_POOLER = False

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> LogitsOutput:
        """Encode a batch and score the classes of every token.

        Args:
            input_ids: [B, S] int64.
            token_type_ids: [B, S] int64; None is all 0.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B, S] int64, the class, or -100 to ignore the token.
            options: the other keyword arguments of `BertModel`.

        Returns:
            Logits [B, S, C].

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        encoded = self.bert(input_ids, token_type_ids, attention_mask, **options)
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        loss = None
        if labels is not None:
            loss = cross_entropy_mean(logits.flatten(0, 1), labels.flatten())
        return LogitsOutput(
            loss=loss,
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanOutput:
    """What `BertForQuestionAnswering` returns."""

    loss: Tensor | None
    """[] float32, the mean of the losses of both ends; None without positions."""
    start_logits: Tensor
    """[B, S], scores for the answer's first token."""
    end_logits: Tensor
    """[B, S], scores for the answer's last token."""
    hidden_states: tuple[Tensor, ...] | None
    """L+1 of [B, S, D], on request."""
    attentions: tuple[Tensor, ...] | None
    """L of [B, H, S, S], on request."""


class BertForQuestionAnswering(ModelWithHeads):
    """BERT that marks where in a passage the answer begins and ends.

    Source:
        Devlin et al. 2018, section 4.2; google-research/bert run_squad.py `create_model`, which
        has no dropout before the linear layer either.
    """

    HAS_POOLER = False

    def _add_heads(self, initializer: str) -> None:
        if self.config.num_labels != 2:
            raise InputError(
                f"question answering has two outputs, start and end; id2label names "
                f"{self.config.num_labels}: set id2label to None"
            )
        self.qa_outputs = nn.Linear(self.config.hidden_size, 2)
        initialize(self.qa_outputs, self.config, initializer)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> SpanOutput:
        """Encode a batch of questions with passages and score both ends of the answer.

        Args:
            input_ids: [B, S] int64, `[CLS] question [SEP] passage [SEP]`.
            token_type_ids: [B, S] int64, 0 in the question, 1 in the passage.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            start_positions: [B] int64, the answer's first token; S or more is ignored.
            end_positions: [B] int64, its last token; give both positions or neither.
            options: the other keyword arguments of `BertModel`.

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        encoded = self.bert(input_ids, token_type_ids, attention_mask, **options)
        start_logits, end_logits = self.qa_outputs(encoded.last_hidden_state).unbind(-1)
        loss = None
        if start_positions is not None and end_positions is not None:
            ends = ((start_logits, start_positions), (end_logits, end_positions))
            loss = torch.stack([_position_loss(*end) for end in ends]).mean()
        return SpanOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


def _position_loss(logits: Tensor, positions: Tensor) -> Tensor:
    """Return the mean cross-entropy [] of positions [B] among [B, S], ignoring those beyond S."""
    if positions.shape != logits.shape[:1]:
        raise InputError(
            f"start_positions and end_positions must be [B] = {list(logits.shape[:1])}; got "
            f"{list(positions.shape)}"
        )
    inside = positions < logits.shape[1]
    return cross_entropy_mean(
        logits.contiguous(), positions.clamp(min=0).where(inside, IGNORED_LABEL)
    )


class BertForMultipleChoice(ModelWithClassifier):
    """BERT that chooses among K texts: each is scored separately, then scores are compared.

    Source:
        Devlin et al. 2018, section 4.4 (SWAG).
    """

    def _num_scores(self) -> int:
        return 1

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> LogitsOutput:
        """Encode every choice of a batch and score it.

        Args:
            input_ids: [B, K, S] int64, `[CLS] context [SEP] choice [SEP]`.
            token_type_ids: [B, K, S] int64; None is all 0.
            attention_mask: [B, K, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B] int64, the right choice in [0, K), or -100.
            options: the other keyword arguments of `BertModel`, with [B, K] in place of B in
                those that have one row per text; packed rows are not among them.

        Returns:
            Logits [B, K].

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        given = input_ids if input_ids is not None else options.get("inputs_embeds")
        shape = [] if given is None else list(given.shape)
        if len(shape) != (3 if input_ids is not None else 4):
            raise InputError(
                f"input_ids must be [B, K, S] (inputs_embeds [B, K, S, D]); got {shape}"
            )
        for name in ("position_ids", "inputs_embeds", "extra_embeddings"):
            if options.get(name) is not None:
                options[name] = _one_row_per_choice(options[name])
        encoded = self.bert(
            *(
                _one_row_per_choice(values)
                for values in (input_ids, token_type_ids, attention_mask)
            ),
            **options,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output)).view(shape[:2])
        return LogitsOutput(
            loss=None if labels is None else cross_entropy_mean(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


def _one_row_per_choice(values: Tensor | None) -> Tensor | None:
    """Reshape [B, K, ...] to [B * K, ...]."""
    return None if values is None else values.flatten(0, 1)

"""The pretraining heads, and the models that carry them.

Letters: B batch, S sequence, D hidden, V vocabulary, N predicted positions, R packed rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model.encoder import BertModel, EncoderOptions, batch_shape
from bert_scratch.model.initial_weights import initialize
from bert_scratch.model.layers import ACTIVATION_FUNCTIONS, LayerNorm
from bert_scratch.model.losses import IGNORED_LABEL, cross_entropy_mean
from bert_scratch.model.pretrained_model import PretrainedModel


class MaskedLMHead(nn.Module):
    """Score every word of the vocabulary at a position.

    In the models the decoder's matrix is tied to the word embedding; a head alone has its own.
    The bias [V] is never tied.

    Args:
        config: hidden_size, vocab_size, hidden_act and layer_norm_eps are used.

    Source:
        google-research/bert run_pretraining.py `get_masked_lm_output`.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACTIVATION_FUNCTIONS[config.hidden_act]
        self.layer_norm = LayerNorm(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map [..., D] to logits [..., V]."""
        logits: Tensor = self.decoder(self.layer_norm(self.activation(self.dense(hidden_states))))
        return logits


class NextSentenceHead(nn.Module):
    """Score whether the second segment follows the first.

    Args:
        config: hidden_size is used.

    Source:
        google-research/bert run_pretraining.py `get_next_sentence_output`.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.classifier = nn.Linear(config.hidden_size, 2)

    def forward(self, pooler_output: Tensor) -> Tensor:
        """Map [B, D] to logits [B, 2]: 0 = B follows A, 1 = random."""
        logits: Tensor = self.classifier(pooler_output)
        return logits


def _predicted(
    masked_positions: Tensor | None, labels: Tensor | None, shape: tuple[int, int]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the positions that need vocabulary logits (None for all), and their labels.

    Args:
        masked_positions: [N], or None.
        labels: [N] with masked_positions, else [B, S]; or None.
        shape: (B, S).
    """
    if masked_positions is not None:
        if labels is not None and labels.shape != masked_positions.shape:
            raise InputError(
                f"with masked_positions {list(masked_positions.shape)} the labels must have the "
                f"same shape; got {list(labels.shape)}"
            )
        return masked_positions, labels
    if labels is None:
        return None, None
    if labels.shape != shape:
        raise InputError(
            f"labels must be [B, S] = {list(shape)}; got {list(labels.shape)}; "
            f"labels [N] go with masked_positions [N]"
        )
    flat = labels.flatten()
    positions = (flat != IGNORED_LABEL).nonzero().squeeze(1)
    return positions, flat.index_select(0, positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTrainingOutput:
    """What `BertForPreTraining` returns."""

    loss: Tensor | None
    """[] float32, the sum of the losses whose labels were given; None without any."""
    mlm_loss: Tensor | None
    """[] float32, mean over predicted positions."""
    nsp_loss: Tensor | None
    """[] float32, mean over pairs."""
    prediction_logits: Tensor
    """[N, V] at predicted positions in reading order; [B, S, V] without labels or positions."""
    seq_relationship_logits: Tensor
    """[B, 2], or [R, 2] of packed rows: 0 = B follows A, 1 = random."""
    hidden_states: tuple[Tensor, ...] | None
    """L+1 of [B, S, D], on request."""
    attentions: tuple[Tensor, ...] | None
    """L of [B, H, S, S], on request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsOutput:
    """What a model with one head returns."""

    loss: Tensor | None
    """[] float32; None without labels."""
    logits: Tensor
    """The head's scores."""
    hidden_states: tuple[Tensor, ...] | None
    """L+1 of [B, S, D], on request."""
    attentions: tuple[Tensor, ...] | None
    """L of [B, H, S, S], on request."""


class ModelWithHeads(PretrainedModel, ABC):
    """The encoder `bert`, and the heads that a subclass adds.

    Args:
        config: the shape.
        attention_backend: auto, explicit or sdpa.
        initializer: normal, truncated_normal or mimetic.
        train_pad_row: whether the [PAD] embedding starts random and is trained.
    """

    HAS_POOLER: ClassVar[bool] = True
    """Whether a head reads the pooler; otherwise the encoder has none."""

    def __init__(
        self,
        config: BertConfig,
        *,
        attention_backend: str = "auto",
        initializer: str = "normal",
        train_pad_row: bool = False,
    ) -> None:
        super().__init__(config)
        self.bert = BertModel(
            config,
            attention_backend=attention_backend,
            initializer=initializer,
            train_pad_row=train_pad_row,
            add_pooling_layer=self.HAS_POOLER,
        )
        self._add_heads(initializer)

    @abstractmethod
    def _add_heads(self, initializer: str) -> None:
        """Create the heads and draw their initial weights."""


class BertForPreTraining(ModelWithHeads):
    """BERT with both pretraining heads: masked language model and next sentence prediction.

    Source:
        Devlin et al. 2018, section 3.1.
    """

    def _add_heads(self, initializer: str) -> None:
        self.mlm_head = MaskedLMHead(self.config)
        self.nsp_head = NextSentenceHead(self.config)
        initialize(self.mlm_head, self.config, initializer)
        initialize(self.nsp_head, self.config, initializer)
        self.mlm_head.decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        masked_positions: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> PreTrainingOutput:
        """Encode a batch and score words and pairs.

        Args:
            input_ids: [B, S] int64, tokens after masking.
            token_type_ids: [B, S] int64; None is all 0.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B, S] int64, the token to predict or -100; with masked_positions [N].
            masked_positions: [N] int64, flat positions (row * S + column) to predict, which
                avoids a search and keeps shapes fixed; label -100 marks a padding slot.
            next_sentence_label: [B] int64 (or [R]), 0 = B follows A, 1 = random.
            options: the other keyword arguments of `BertModel`.

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        shape = batch_shape(input_ids, options.get("inputs_embeds"))
        positions, targets = _predicted(masked_positions, labels, shape)
        encoded = self.bert(
            input_ids, token_type_ids, attention_mask, output_positions=positions, **options
        )
        logits = self.mlm_head(encoded.last_hidden_state)
        pair_logits = self.nsp_head(encoded.pooler_output)
        mlm_loss = None if targets is None else cross_entropy_mean(logits, targets)
        nsp_loss = None
        if next_sentence_label is not None:
            nsp_loss = cross_entropy_mean(pair_logits, next_sentence_label)
        losses = [loss for loss in (mlm_loss, nsp_loss) if loss is not None]
        return PreTrainingOutput(
            loss=torch.stack(losses).sum() if losses else None,
            mlm_loss=mlm_loss,
            nsp_loss=nsp_loss,
            prediction_logits=logits,
            seq_relationship_logits=pair_logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class BertForMaskedLM(ModelWithHeads):
    """BERT with the masked language model head, without a pooler."""

    HAS_POOLER = False

    def _add_heads(self, initializer: str) -> None:
        self.mlm_head = MaskedLMHead(self.config)
        initialize(self.mlm_head, self.config, initializer)
        self.mlm_head.decoder.weight = self.bert.embeddings.word_embeddings.weight

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        masked_positions: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> LogitsOutput:
        """Encode a batch and score words.

        Args:
            input_ids: [B, S] int64, tokens after masking.
            token_type_ids: [B, S] int64; None is all 0.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B, S] int64, the token to predict or -100; with masked_positions [N].
            masked_positions: [N] int64, flat positions to predict; None is all of them.
            options: the other keyword arguments of `BertModel`.

        Returns:
            Logits [B, S, V], or [N, V] in reading order with labels or masked_positions.

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        shape = batch_shape(input_ids, options.get("inputs_embeds"))
        positions, targets = _predicted(masked_positions, labels, shape)
        encoded = self.bert(
            input_ids, token_type_ids, attention_mask, output_positions=positions, **options
        )
        logits = self.mlm_head(encoded.last_hidden_state)
        return LogitsOutput(
            loss=None if targets is None else cross_entropy_mean(logits, targets),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class BertForNextSentencePrediction(ModelWithHeads):
    """BERT with the next sentence head."""

    def _add_heads(self, initializer: str) -> None:
        self.nsp_head = NextSentenceHead(self.config)
        initialize(self.nsp_head, self.config, initializer)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        **options: Unpack[EncoderOptions],
    ) -> LogitsOutput:
        """Encode a batch of pairs and score whether B follows A.

        Args:
            input_ids: [B, S] int64, `[CLS] A [SEP] B [SEP]`.
            token_type_ids: [B, S] int64, 0 in A, 1 in B.
            attention_mask: [B, S], 1 on real tokens, 0 on padding; None is all 1.
            labels: [B] int64 (or [R]), 0 = B follows A, 1 = random.
            options: the other keyword arguments of `BertModel`.

        Returns:
            Logits [B, 2], or [R, 2] of packed rows.

        Raises:
            InputError: if the inputs contradict each other or are too long.
        """
        encoded = self.bert(input_ids, token_type_ids, attention_mask, **options)
        logits = self.nsp_head(encoded.pooler_output)
        return LogitsOutput(
            loss=None if labels is None else cross_entropy_mean(logits, labels),
            logits=logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

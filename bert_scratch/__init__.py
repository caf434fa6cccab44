"""A from-scratch BERT in PyTorch: raw text in, a pretrained model that `transformers` loads out.

Names are resolved when first used, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bert_scratch.config import BertConfig as BertConfig
    from bert_scratch.config import InputError as InputError
    from bert_scratch.data.store import TokenStore as TokenStore
    from bert_scratch.data.vocabulary import train_tokenizer as train_tokenizer
    from bert_scratch.data.wordpiece import load_tokenizer as load_tokenizer
    from bert_scratch.finetuning.finetune import FinetuneResult as FinetuneResult
    from bert_scratch.finetuning.finetune import finetune as finetune
    from bert_scratch.finetuning.finetune_config import FinetuneConfig as FinetuneConfig
    from bert_scratch.inference.embed import embed as embed
    from bert_scratch.inference.fill_mask import fill_mask as fill_mask
    from bert_scratch.inference.next_sentence import next_sentence as next_sentence
    from bert_scratch.model.encoder import BertModel as BertModel
    from bert_scratch.model.encoder import EncoderLayer as EncoderLayer
    from bert_scratch.model.encoder import Pooler as Pooler
    from bert_scratch.model.heads import BertForMaskedLM as BertForMaskedLM
    from bert_scratch.model.heads import (
        BertForNextSentencePrediction as BertForNextSentencePrediction,
    )
    from bert_scratch.model.heads import BertForPreTraining as BertForPreTraining
    from bert_scratch.model.heads import MaskedLMHead as MaskedLMHead
    from bert_scratch.model.heads import NextSentenceHead as NextSentenceHead
    from bert_scratch.model.layers import Embeddings as Embeddings
    from bert_scratch.model.layers import FeedForward as FeedForward
    from bert_scratch.model.layers import LayerNorm as LayerNorm
    from bert_scratch.model.layers import MultiHeadAttention as MultiHeadAttention
    from bert_scratch.model.task_heads import BertForMultipleChoice as BertForMultipleChoice
    from bert_scratch.model.task_heads import BertForQuestionAnswering as BertForQuestionAnswering
    from bert_scratch.model.task_heads import (
        BertForSequenceClassification as BertForSequenceClassification,
    )
    from bert_scratch.model.task_heads import (
        BertForTokenClassification as BertForTokenClassification,
    )
    from bert_scratch.pretraining.evaluate import EvaluateConfig as EvaluateConfig
    from bert_scratch.pretraining.evaluate import evaluate as evaluate
    from bert_scratch.pretraining.prepare import PrepareConfig as PrepareConfig
    from bert_scratch.pretraining.prepare import prepare as prepare
    from bert_scratch.pretraining.pretrain import PretrainResult as PretrainResult
    from bert_scratch.pretraining.pretrain import pretrain as pretrain
    from bert_scratch.pretraining.pretrain_config import PretrainConfig as PretrainConfig

_HOMES = {
    "BertConfig": "config",
    "BertForMaskedLM": "model.heads",
    "BertForMultipleChoice": "model.task_heads",
    "BertForNextSentencePrediction": "model.heads",
    "BertForPreTraining": "model.heads",
    "BertForQuestionAnswering": "model.task_heads",
    "BertForSequenceClassification": "model.task_heads",
    "BertForTokenClassification": "model.task_heads",
    "BertModel": "model.encoder",
    "Embeddings": "model.layers",
    "EncoderLayer": "model.encoder",
    "EvaluateConfig": "pretraining.evaluate",
    "FeedForward": "model.layers",
    "FinetuneConfig": "finetuning.finetune_config",
    "FinetuneResult": "finetuning.finetune",
    "InputError": "config",
    "LayerNorm": "model.layers",
    "MaskedLMHead": "model.heads",
    "MultiHeadAttention": "model.layers",
    "NextSentenceHead": "model.heads",
    "Pooler": "model.encoder",
    "PrepareConfig": "pretraining.prepare",
    "PretrainConfig": "pretraining.pretrain_config",
    "PretrainResult": "pretraining.pretrain",
    "TokenStore": "data.store",
    "embed": "inference.embed",
    "evaluate": "pretraining.evaluate",
    "fill_mask": "inference.fill_mask",
    "finetune": "finetuning.finetune",
    "load_tokenizer": "data.wordpiece",
    "next_sentence": "inference.next_sentence",
    "prepare": "pretraining.prepare",
    "pretrain": "pretraining.pretrain",
    "train_tokenizer": "data.vocabulary",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

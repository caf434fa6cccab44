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
    from bert_scratch.finetuning.finetune_config import FinetuneConfig as FinetuneConfig
    from bert_scratch.inference.attention_maps import attention_maps as attention_maps
    from bert_scratch.inference.augment import Augmenter as Augmenter
    from bert_scratch.inference.augment import AugmentOptions as AugmentOptions
    from bert_scratch.inference.bert_score import bert_score as bert_score
    from bert_scratch.inference.embed import embed as embed
    from bert_scratch.inference.fill_mask import fill_mask as fill_mask
    from bert_scratch.inference.generate import GenerateOptions as GenerateOptions
    from bert_scratch.inference.generate import generate as generate
    from bert_scratch.inference.nearest import nearest as nearest
    from bert_scratch.inference.next_sentence import next_sentence as next_sentence
    from bert_scratch.inference.pseudo_likelihood import (
        pseudo_log_likelihoods as pseudo_log_likelihoods,
    )
    from bert_scratch.inference.pseudo_perplexity import (
        pseudo_perplexities as pseudo_perplexities,
    )
    from bert_scratch.inference.score import ScoreConfig as ScoreConfig
    from bert_scratch.inference.similarity import similarity as similarity
    from bert_scratch.inference.vectorizer import BertVectorizer as BertVectorizer
    from bert_scratch.inference.whitening import Whitening as Whitening
    from bert_scratch.inference.whitening import fit_whitening as fit_whitening
    from bert_scratch.inference.word_embeddings import (
        word_embeddings_from_vectors as word_embeddings_from_vectors,
    )
    from bert_scratch.inference.word_vectors import static_word_vectors as static_word_vectors
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
    from bert_scratch.pretraining.pretrain_config import PretrainConfig as PretrainConfig
    from bert_scratch.pretraining.result import PretrainResult as PretrainResult
    from bert_scratch.views.notebook import explain as explain
    from bert_scratch.views.notebook import report as report
    from bert_scratch.views.notebook import score as score
    from bert_scratch.views.reported import finetune as finetune
    from bert_scratch.views.reported import pretrain as pretrain

_HOMES = {
    "AugmentOptions": "inference.augment",
    "Augmenter": "inference.augment",
    "BertConfig": "config",
    "BertForMaskedLM": "model.heads",
    "BertForMultipleChoice": "model.task_heads",
    "BertForNextSentencePrediction": "model.heads",
    "BertForPreTraining": "model.heads",
    "BertForQuestionAnswering": "model.task_heads",
    "BertForSequenceClassification": "model.task_heads",
    "BertForTokenClassification": "model.task_heads",
    "BertModel": "model.encoder",
    "BertVectorizer": "inference.vectorizer",
    "Embeddings": "model.layers",
    "EncoderLayer": "model.encoder",
    "EvaluateConfig": "pretraining.evaluate",
    "FeedForward": "model.layers",
    "GenerateOptions": "inference.generate",
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
    "PretrainResult": "pretraining.result",
    "ScoreConfig": "inference.score",
    "TokenStore": "data.store",
    "attention_maps": "inference.attention_maps",
    "Whitening": "inference.whitening",
    "bert_score": "inference.bert_score",
    "embed": "inference.embed",
    "evaluate": "pretraining.evaluate",
    "explain": "views.notebook",
    "fill_mask": "inference.fill_mask",
    "fit_whitening": "inference.whitening",
    "generate": "inference.generate",
    "finetune": "views.reported",
    "load_tokenizer": "data.wordpiece",
    "nearest": "inference.nearest",
    "next_sentence": "inference.next_sentence",
    "prepare": "pretraining.prepare",
    "pretrain": "views.reported",
    "pseudo_log_likelihoods": "inference.pseudo_likelihood",
    "pseudo_perplexities": "inference.pseudo_perplexity",
    "report": "views.notebook",
    "score": "views.notebook",
    "similarity": "inference.similarity",
    "static_word_vectors": "inference.word_vectors",
    "train_tokenizer": "data.vocabulary",
    "word_embeddings_from_vectors": "inference.word_embeddings",
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

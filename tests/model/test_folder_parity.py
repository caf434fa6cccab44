"""Pins model folders against transformers: ours load there whole, theirs load here, sharded or
not, and both compute the same. Needs transformers, and the hub where marked `network`.
Run alone: `pytest tests/model/test_folder_parity.py`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig
from bert_scratch.data.wordpiece import TokenizerFolder, build_tokenizer, load_tokenizer
from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
)
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import WEIGHTS, find_folder

transformers = pytest.importorskip("transformers")


CONFIG = BertConfig(
    vocab_size=67,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    intermediate_size=40,
    max_position_embeddings=19,
)


def make(cls: type[PretrainedModel], seed: int = 1) -> PretrainedModel:
    """Return a model whose every parameter, biases and LayerNorms too, is random."""
    torch.manual_seed(seed)
    model = cls(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def make_hf(name: str, **changes: Any) -> Any:
    torch.manual_seed(2)
    values = {**CONFIG.to_dict(), **changes}
    del values["id2label"], values["problem_type"], values["classifier_dropout"]
    model = getattr(transformers, name)(transformers.BertConfig(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    mask = torch.ones(3, 13, dtype=torch.int64)
    mask[1, 9:] = 0
    mask[2, 4:] = 0
    return {
        "input_ids": torch.randint(5, 67, (3, 13), generator=generator),
        "token_type_ids": torch.randint(0, 2, (3, 13), generator=generator),
        "attention_mask": mask,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(BertForPreTraining).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return what a model of either library computes, on real positions only."""
    with torch.no_grad():
        output = model(**inputs)
    names = ("last_hidden_state", "prediction_logits", "logits", "seq_relationship_logits")
    found = [getattr(output, name) for name in names if hasattr(output, name)]
    pooled = getattr(output, "pooler_output", None)
    real = inputs["attention_mask"].bool()
    return [t[real] if t.ndim == 3 else t for t in found + ([] if pooled is None else [pooled])]


def assert_same_outputs(ours: Any, theirs: Any, inputs: dict[str, torch.Tensor]) -> None:
    pairs = list(zip(outputs_of(ours, inputs), outputs_of(theirs, inputs), strict=True))
    assert pairs
    for our, their in pairs:
        torch.testing.assert_close(our, their, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BertModel, "AutoModel"),
        (BertForMaskedLM, "AutoModelForMaskedLM"),
        (BertForPreTraining, "AutoModelForPreTraining"),
        (BertForPreTraining, "BertForPreTraining"),
        (BertForNextSentencePrediction, "AutoModelForNextSentencePrediction"),
    ],
)
def test_our_folder_loads_in_transformers_whole(
    ours: type[PretrainedModel], theirs: str, inputs: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = make(ours)
    model.save_pretrained(tmp_path)
    loaded, info = getattr(transformers, theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert_same_outputs(model, loaded.eval(), inputs)


@pytest.mark.parametrize("theirs", ["AutoModel", "AutoModelForMaskedLM"])
def test_pretraining_folder_gives_transformers_all_a_smaller_class_needs(
    theirs: str, folder: Path
) -> None:
    loaded, info = getattr(transformers, theirs).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    own = make_hf("BertForPreTraining").state_dict().keys()
    assert info["unexpected_keys"] <= own, "only keys of the other heads"
    state = load_file(folder / WEIGHTS)
    for name, tensor in loaded.state_dict().items():
        stored = state.get(name, state.get(f"bert.{name}"))
        assert stored is None or torch.equal(tensor, stored)


def small_tokenizer() -> Tokenizer:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "##a", "##b", "the"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=True)


def test_tokenizer_saved_along_loads_in_autotokenizer(tmp_path: Path) -> None:
    tokenizer = small_tokenizer()
    make(BertForPreTraining).save_pretrained(tmp_path, TokenizerFolder(tokenizer))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("the ab", "The [MASK] b, c", "z"):
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BertModel, "BertModel"),
        (BertForMaskedLM, "BertForMaskedLM"),
        (BertForPreTraining, "BertForPreTraining"),
        (BertForNextSentencePrediction, "BertForNextSentencePrediction"),
    ],
)
@pytest.mark.parametrize("shard_size", [None, "8KB"])
def test_transformers_folder_loads_and_computes_the_same(
    ours: type[PretrainedModel],
    theirs: str,
    shard_size: str | None,
    inputs: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    hf_model = make_hf(theirs)
    hf_model.save_pretrained(tmp_path, **({"max_shard_size": shard_size} if shard_size else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(shard_size)
    assert_same_outputs(ours.from_pretrained(tmp_path), hf_model, inputs)


@pytest.mark.parametrize("theirs", ["BertForTokenClassification", "BertForQuestionAnswering"])
def test_head_of_another_task_is_skipped_and_named(
    theirs: str,
    inputs: dict[str, torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    hf_model = make_hf(theirs)
    hf_model.save_pretrained(tmp_path)
    ours = BertModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert_same_outputs(ours, hf_model.bert, inputs)
    assert len(caplog.records) == 1
    head = "qa_outputs" if "Question" in theirs else "classifier"
    assert f"{head}.weight" in caplog.text
    assert str(tmp_path) in caplog.text


def hub_is_reachable() -> bool:
    try:
        socket.create_connection(("huggingface.co", 443), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.network
@pytest.mark.parametrize(
    ("hub_id", "text", "answer"),
    [
        ("bert-base-uncased", "The capital of France is [MASK].", "paris"),
        ("bert-base-chinese", "中国的首都是北[MASK]。", "京"),
    ],
)
def test_published_model_computes_the_same_and_fills_masks(
    hub_id: str, text: str, answer: str
) -> None:
    if not hub_is_reachable():
        pytest.skip("the hub cannot be reached")
    ours = BertForPreTraining.from_pretrained(hub_id)
    theirs = transformers.BertForPreTraining.from_pretrained(hub_id).eval()
    tokenizer = load_tokenizer(find_folder(hub_id))
    ids = tokenizer.encode(text).ids
    assert ids == transformers.AutoTokenizer.from_pretrained(hub_id)(text)["input_ids"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
    with torch.no_grad():
        our, their = ours(**inputs), theirs(**inputs)
    torch.testing.assert_close(our.prediction_logits, their.prediction_logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        our.seq_relationship_logits, their.seq_relationship_logits, atol=1e-4, rtol=0
    )
    assert fill_mask(ours, tokenizer, text)[0][0].token == answer

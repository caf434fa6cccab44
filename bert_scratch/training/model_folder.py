"""The result for the user: weights, tokenizer, pooling and a model card in one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bert_scratch import durable
from bert_scratch.model.folder import SavesPretrained
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import SENTENCES


def write_model_folder(
    folder: Path,
    *,
    model: PretrainedModel,
    tokenizer: SavesPretrained,
    model_card: str,
    max_seq_length: int,
    also: Mapping[str, str] | None = None,
) -> None:
    """Write a folder that transformers, sentence-transformers and this package all load.

    It appears whole: everything is first written next to it under a temporary name.

    Args:
        folder: where the result goes; an older result there is replaced.
        model: its weights are saved under Hugging Face's names.
        tokenizer: its files are written too.
        model_card: the text of `README.md`.
        max_seq_length: the length the model was trained at; sentence vectors truncate there.
        also: further text files, {name: content}.
    """
    hidden_size = model.config.hidden_size
    with durable.durable_folder(folder) as temporary:
        model.save_pretrained(temporary, tokenizer=tokenizer)
        _write_pooling(temporary, hidden_size=hidden_size, max_seq_length=max_seq_length)
        for name, content in {"README.md": model_card, **(also or {})}.items():
            durable.write_text(temporary / name, content)


def _write_pooling(folder: Path, *, hidden_size: int, max_seq_length: int) -> None:
    """Configure sentence-transformers to take the mean over real tokens."""
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    durable.write_json(folder / "modules.json", modules)
    durable.write_json(
        folder / SENTENCES,
        {"max_seq_length": max_seq_length, "do_lower_case": False},
    )
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": hidden_size,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    durable.write_json(folder / "1_Pooling" / "config.json", pooling)

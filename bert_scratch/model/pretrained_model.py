"""What every model has besides its forward pass: a configuration, loading and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from torch import nn

from bert_scratch.config import BertConfig


class PretrainedModel(nn.Module):
    """The base of every model.

    Args:
        config: the shape of the model.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(
        cls, folder_or_hub_id: str | Path, *, new_head: bool = False, **overrides: Any
    ) -> Self:
        """Load a model folder, Hugging Face's or ours, or a model from the hub.

        Args:
            folder_or_hub_id: a folder with config.json and model.safetensors, or a hub id.
            new_head: initialise a head or pooler that the files lack; otherwise that is an error.
            overrides: `BertConfig` fields that replace the folder's.

        Raises:
            InputError: if the folder cannot be read or does not fit this class.
        """
        from bert_scratch.model.folder import load_pretrained

        return load_pretrained(cls, folder_or_hub_id, new_head=new_head, **overrides)

    def save_pretrained(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Write a folder that this package, transformers and sentence-transformers load.

        Args:
            folder: made if absent.
            tokenizer: anything with `save_pretrained(folder)`; None writes the model alone.
        """
        from bert_scratch.model.folder import save_pretrained

        save_pretrained(self, folder, tokenizer)

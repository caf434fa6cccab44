"""Load a model folder with all pretraining heads that it has."""

from __future__ import annotations

from tokenizers import Tokenizer

from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import load_tokenizer
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.folder import load_pretrained
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining
from bert_scratch.model.weight_files import find_folder

WholeModel = BertForPreTraining | BertForMaskedLM | BertModel


def load_whole_model(folder_or_hub_id: str) -> tuple[WholeModel, Tokenizer]:
    """Load the encoder of a folder with its heads: both, masked words only, or none.

    Raises:
        InputError: if the folder has no encoder that can be loaded, or no tokenizer.
    """
    folder = find_folder(folder_or_hub_id)
    tokenizer = load_tokenizer(folder)
    try:
        return load_pretrained(BertForPreTraining, folder), tokenizer
    except InputError:
        pass  # it lacks a head or more; loading only the encoder, tried last, reports the rest
    try:
        return load_pretrained(BertForMaskedLM, folder), tokenizer
    except InputError:
        pass
    return load_pretrained(BertModel, folder, add_pooling_layer=False), tokenizer

"""Check that a model and a prepared corpus use the same ids for the same words."""

from __future__ import annotations

from bert_scratch.config import InputError
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import has_tokenizer, load_tokenizer
from bert_scratch.model.weight_files import find_folder


def check_same_vocabulary(
    flag: str, model: str, store: TokenStore, *, may_be_larger: bool = False
) -> None:
    """Refuse a corpus that was prepared with another vocabulary than the model's.

    A folder without a tokenizer cannot be checked and passes.

    Args:
        flag: the flag that named the model, for the error.
        model: a model folder or a hub id.
        store: the prepared corpus, with its tokenizer in the subfolder `tokenizer`.
        may_be_larger: whether the corpus's vocabulary may have more tokens than the model's.

    Raises:
        InputError: if the vocabularies differ.
    """
    folder = find_folder(model)
    if not has_tokenizer(folder):
        return
    own = load_tokenizer(folder).get_vocab()
    theirs = load_tokenizer(store.folder / "tokenizer").get_vocab()
    if may_be_larger:
        theirs = {token: number for token, number in theirs.items() if token in own}
    if own != theirs:
        raise InputError(
            f"{flag} {model}: its vocabulary is not the one {store.folder} was prepared with; "
            f"prepare the text again with --tokenizer {folder}"
        )

"""What the finished model can do, on a few sentences it has never seen."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer

from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import TokenizerFolder, special_ids
from bert_scratch.inference.fill_mask import fill_mask
from bert_scratch.model.heads import BertForPreTraining

NUM_SENTENCES = 5
SENTENCE_TOKENS = range(9, 28)


def show_fill_ins(model: BertForPreTraining, store: TokenStore, tokenizer: TokenizerFolder) -> None:
    """Print a few held-out sentences with a word hidden, what the model says, and the word."""
    sentences = dict.fromkeys(masked_sentences(store, tokenizer))
    if sentences:
        print("held-out sentences, one word hidden (in brackets), the model's five guesses:")
    for before, hidden, after in sentences:
        guesses = fill_mask(model, tokenizer.tokenizer, f"{before} [MASK] {after}".strip(), top_k=5)
        listing = ", ".join(f"{guess.token} {guess.score:.2f}" for guess in guesses[0])
        print(f"  {before} [{hidden}] {after}\n    {listing}")


def masked_sentences(
    store: TokenStore, tokenizer: TokenizerFolder
) -> Iterator[tuple[str, str, str]]:
    """Yield (text before, hidden word, text after) from sentences spread over the held-out text.

    The hidden word is the longest one that is a single token, in the sentence's second half.
    """
    plain = tokenizer.tokenizer
    unknown = special_ids(plain).unk
    found = 0
    for shard in store.shards("eval"):
        ends = shard.sentences.tolist()
        spans = [
            (start, end)
            for start, end in zip([0, *ends], ends, strict=False)
            if end - start in SENTENCE_TOKENS
        ]
        for start, end in spans[:: max(1, len(spans) // NUM_SENTENCES)]:
            ids = shard.read(start, end).tolist()
            place = _longest_word(ids, plain)
            if place is None or unknown in ids:
                continue
            before, after = plain.decode(ids[:place]), plain.decode(ids[place + 1 :])
            yield before, _token(plain, ids[place]), after
            found += 1
            if found == NUM_SENTENCES:
                return


def _longest_word(ids: list[int], tokenizer: Tokenizer) -> int | None:
    """Return where the longest whole word of a sentence's second half stands."""
    pieces = [_token(tokenizer, i) for i in ids] + [""]
    places = [
        place
        for place in range(len(ids) // 2, len(ids))
        if pieces[place].isalpha() and not pieces[place + 1].startswith("##")
    ]
    return max(places, key=lambda place: len(pieces[place]), default=None)


def _token(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.id_to_token(token_id) or ""

"""Show what a model can do, on a few sentences it has never seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import TokenizerFolder, special_ids
from bert_scratch.inference.fill_mask import FilledMask, fill_masks
from bert_scratch.inference.inputs import MASK
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.training.metrics import MetricsLog

NUM_SENTENCES = 5
NUM_GUESSES = 5
SENTENCE_TOKENS = range(9, 28)
_LONGEST = SENTENCE_TOKENS.stop + 4
"""With [CLS] and [SEP], and two spare tokens in case the decoded text is tokenised differently."""


Sentence = tuple[str, str, str]
"""The text before, the hidden word, the text after."""


class FillIns:
    """The same few held-out sentences during a run, one word hidden, and the model's guesses.

    One JSON line per evaluation: {"step", "sentences": [{"before", "hidden", "after", "guesses":
    [{"token", "score"}]}]}.
    """

    def __init__(
        self,
        path: Path | None,
        store: TokenStore,
        tokenizer: TokenizerFolder,
        *,
        keep_through_step: int,
    ) -> None:
        """Choose the sentences, and cut lines that a resumed run will write again.

        Args:
            path: the `fill_ins.jsonl` of the run; None on the ranks that write nothing.
            store: its held-out text is shown.
            tokenizer: of the store.
            keep_through_step: lines of later steps are removed.
        """
        self.log = MetricsLog(path, keep_through_step=keep_through_step)
        self.tokenizer = tokenizer.tokenizer
        self.sentences = list(dict.fromkeys(masked_sentences(store, tokenizer)))

    def add(self, step: int, model: BertForPreTraining) -> None:
        """Ask the model, and log its guesses."""
        said = [
            {
                "before": before,
                "hidden": hidden,
                "after": after,
                "guesses": [{"token": g.token, "score": round(g.score, 4)} for g in guesses],
            }
            for (before, hidden, after), guesses in self._asked(model)
        ]
        self.log.append_line({"step": step, "sentences": said})

    def show(self, model: BertForPreTraining) -> None:
        """Print the sentences with the hidden word and the model's guesses."""
        asked = self._asked(model)
        if asked:
            print("held-out sentences, one word hidden (in brackets), the model's five guesses:")
        for (before, hidden, after), guesses in asked:
            listing = ", ".join(f"{guess.token} {guess.score:.2f}" for guess in guesses)
            print(f"  {before} [{hidden}] {after}\n    {listing}")

    def _asked(self, model: BertForPreTraining) -> list[tuple[Sentence, list[FilledMask]]]:
        """Return each sentence with the model's guesses; none if the model is too short."""
        if not self.sentences or model.config.max_position_embeddings < _LONGEST:
            return []
        texts = [f"{before} {MASK} {after}".strip() for before, _, after in self.sentences]
        guesses = fill_masks(model, self.tokenizer, texts, top_k=NUM_GUESSES)
        return [(s, found[0]) for s, found in zip(self.sentences, guesses, strict=True)]


def masked_sentences(store: TokenStore, tokenizer: TokenizerFolder) -> Iterator[Sentence]:
    """Yield sentences with a hidden word, spread over the held-out text.

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
            if MASK in before + after:
                continue
            yield before, _token(plain, ids[place]), after
            found += 1
            if found == NUM_SENTENCES:
                return


def _longest_word(ids: list[int], tokenizer: Tokenizer) -> int | None:
    """Return the position of the longest whole word in a sentence's second half."""
    pieces = [_token(tokenizer, i) for i in ids] + [""]
    places = [
        place
        for place in range(len(ids) // 2, len(ids))
        if pieces[place].isalpha() and not pieces[place + 1].startswith("##")
    ]
    return max(places, key=lambda place: len(pieces[place]), default=None)


def _token(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.id_to_token(token_id) or ""

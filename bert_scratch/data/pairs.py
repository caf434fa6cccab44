"""Which token ranges make the sentence pairs of an epoch, for balanced `nsp` and for `sop`.

A window of a document is cut in two; A is the first part, B the second or a random one. Terms are
those of `windows.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bert_scratch.config import InputError, counted
from bert_scratch.data.examples import ExampleBatch, ExampleFacts, Integers
from bert_scratch.data.philox import below, below64
from bert_scratch.data.shard import Shard
from bert_scratch.data.split_text import ShardLookup, SplitText
from bert_scratch.data.windows import TokenWindows

# labels; for sop: in order, swapped
IS_NEXT, IS_RANDOM = 0, 1


class BalancedPairs:
    """Pairs for NSP or SOP whose two labels are equally frequent and always true.

    With label 0, B is the rest of the window. With label 1, nsp takes B from another document, at
    a token drawn uniformly from all other documents of the split; sop swaps A and B. If no
    sentence ends inside the window (long sentences, and most short windows), the cut, and the
    start of a random B, may fall on any token.

    In nsp neither A nor the lengths reveal the label: the window and its cut do not depend on it,
    and where a random document is too short, B is shortened equally under label 0. In sop the
    lengths reveal a little, as in the original: after a cut at a sentence end the first part is
    the longer one more often than not.

    An epoch reads as many tokens as the text has, less what short windows leave out, but not each
    token once. If documents are longer than a window, one epoch covers some three quarters of the
    text in nsp, whose random Bs fall anywhere, and 85 % in sop; five epochs cover 98 % or more.

    Args:
        shards: of one split.
        max_tokens: M, tokens of A and B together.
        short_seq_prob: share of windows with a shorter target.
        seed: the key of all draws.
        split: its name, for error messages.
        swap: False for nsp, True for sop.
        word_starts: also return where words start; the store must have them.

    Raises:
        InputError: if the split has no document of two sentences, or (nsp) a single document.

    Source:
        Devlin et al. 2018, appendix A.2; Lan et al. 2020 (sop). Deviations from
        google-research/bert create_pretraining_data.py: labels are balanced, a random B is never
        from the same document and is drawn by tokens rather than by documents, and nothing is
        truncated after the cut.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        max_tokens: int,
        short_seq_prob: float,
        seed: int,
        split: str,
        swap: bool,
        word_starts: bool = False,
    ) -> None:
        self._text = SplitText(shards, word_starts=word_starts)
        num_documents = int(self._text.num_documents.sum())
        num_single = int(self._text.num_one_sentence_documents.sum())
        check_pairs_possible(split, num_documents, num_single, need_two=not swap)
        usable = self._text.num_one_sentence_documents < self._text.num_documents
        self._windows = TokenWindows(
            self._text, usable, max_tokens=max_tokens, short_seq_prob=short_seq_prob, seed=seed
        )
        self._swap = swap
        self.facts = ExampleFacts(
            num_examples=self._windows.num_slots,
            num_documents=num_documents,
            num_one_sentence_documents=num_single,
            random_next_share=0.5,
        )

    def batch(self, epochs: Integers, slots: Integers) -> ExampleBatch:
        """Return the example of each (epoch, slot), both [B] int64."""
        draws = self._windows.draws(epochs, slots)
        label_bits, cut_bits, high_bits, low_bits, start_bits, _ = draws.bits
        labels = label_bits >> 31
        lookup = self._text.lookup(draws.shards)
        tokens, sentences, *home = self._homes(lookup, draws.tokens, start_bits)
        starts, ends = self._windows.windows(lookup, tokens, sentences, draws.targets, *home)
        cuts, at_sentence = _cuts(lookup, starts, ends, cut_bits)
        # [B, 2], A and B of each row
        shards = np.stack([draws.shards, draws.shards], axis=1)
        firsts = np.stack([starts, cuts], axis=1)
        lengths = np.stack([cuts - starts, ends - cuts], axis=1)
        changed = labels == IS_RANDOM
        if self._swap:
            firsts[changed] = firsts[changed, ::-1]
            lengths[changed] = lengths[changed, ::-1]
        else:
            # drawn for both labels, so that a random document's end shortens B under either
            places = self._places_elsewhere(high_bits, low_bits, draws.shards, *home)
            others, other_firsts, lengths[:, 1] = self._random_segments(
                places, lengths[:, 1], at_sentence
            )
            shards[changed, 1] = others[changed]
            firsts[changed, 1] = other_firsts[changed]
        return self._text.read(
            shards.ravel(),
            firsts.ravel(),
            lengths.ravel(),
            segments_per_row=np.full(len(slots), 2),
            labels=labels,
        )

    def _homes(
        self, lookup: ShardLookup, tokens: Integers, start_bits: Integers
    ) -> tuple[Integers, Integers, Integers, Integers]:
        """Return each row's token, its sentence, and its document's first and end token.

        A token of a one-sentence document is replaced by one of the next document with two.
        """
        sentences = lookup.sentence_at(tokens)
        documents = lookup.document_of(sentences)
        first, last = lookup.document_sentences(documents)
        single = np.flatnonzero(last - first == 1)
        if len(single):
            moved = self._text.lookup(lookup.shards[single])
            documents = moved.next_document_of_two(documents[single])
            first[single], last[single] = moved.document_sentences(documents)
            start, end = moved.document_range(documents)
            tokens = tokens.copy()
            tokens[single] = start + below(start_bits[single], end - start)
            sentences[single] = moved.sentence_at(tokens[single])
        return tokens, sentences, lookup.sentence_start(first), lookup.sentence_end(last - 1)

    def _places_elsewhere(
        self,
        high_bits: Integers,
        low_bits: Integers,
        shards: Integers,
        start: Integers,
        end: Integers,
    ) -> Integers:
        """Return places drawn from all tokens except [start, end) of each row's shard."""
        left = self._text.num_tokens.sum() - (end - start)
        places: Integers = below64(high_bits, low_bits, left)
        return places + np.where(places >= start + self._text.first_places[shards], end - start, 0)

    def _random_segments(
        self, places: Integers, lengths: Integers, at_sentence: npt.NDArray[np.bool_]
    ) -> tuple[Integers, Integers, Integers]:
        """Return shard, first token and length of segments of the documents at some places.

        A segment has up to `lengths` tokens, and starts with a sentence if `at_sentence`.
        """
        shards, tokens = self._text.locate(places)
        lookup = self._text.lookup(shards)
        sentences = lookup.sentence_at(tokens)
        start, end = lookup.document_range(lookup.document_of(sentences))
        firsts = np.maximum(start, np.minimum(tokens, end - lengths))
        earlier = np.flatnonzero(firsts < tokens)
        sentences[earlier] = self._text.lookup(shards[earlier]).sentence_at(firsts[earlier])
        firsts = np.where(at_sentence, lookup.sentence_start(sentences), firsts)
        return shards, firsts, np.minimum(lengths, end - firsts)


def _cuts(
    lookup: ShardLookup, starts: Integers, ends: Integers, bits: Integers
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Return where each window is cut, and whether that is a sentence end."""
    first = lookup.sentence_at(starts)
    choices = lookup.sentence_at(ends - 1) - first
    at_sentence = choices > 0
    sentence_ends = lookup.sentence_end(first + below(bits, choices))
    anywhere = starts + 1 + below(bits, ends - starts - 1)
    return np.where(at_sentence, sentence_ends, anywhere), at_sentence


def check_pairs_possible(
    split: str, num_documents: int, num_one_sentence: int, *, need_two: bool = True
) -> None:
    """Raise `InputError` if the documents of a split cannot give pairs with true labels."""
    remedy = "--documents (and --eval-fraction for eval), or train without pairs: --pair-task none"
    if need_two and num_documents < 2:
        raise InputError(
            "next sentence prediction needs at least two documents, because a random B comes from "
            f"another document; the {split} split has {num_documents}. Check {remedy}"
        )
    if num_one_sentence == num_documents:
        raise InputError(
            f"sentence pairs need documents of two sentences or more; the {split} split has "
            f"{counted(num_documents, 'document')}, each of one. Check --sentences, {remedy}"
        )

"""What counting alone can do: the baselines that a model has to beat.

Both guess a word of a sentence from counts of other text: the most frequent word overall, and the
word that occurs most often between the same two neighbours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from bert_scratch.inference.whole_words import is_word

Context = tuple[str, str]
EDGE = ""
"""The neighbour of a sentence's first and last word."""


class NeighbourCounts:
    """Counts which words occur in given contexts, while text streams by.

    Only the contexts that will be needed are kept, so memory does not grow with the text.
    """

    def __init__(self, contexts: Iterable[Context]) -> None:
        """Start with no counts.

        Args:
            contexts: the (left, right) neighbours that `guess` will be asked about.
        """
        self._between: dict[Context, Counter[str]] = {pair: Counter() for pair in contexts}
        lefts = {left for left, _ in self._between}
        rights = {right for _, right in self._between}
        self._after: dict[str, Counter[str]] = {left: Counter() for left in lefts}
        self._before: dict[str, Counter[str]] = {right: Counter() for right in rights}
        self._words: defaultdict[str, int] = defaultdict(int)

    def add(self, words: Sequence[str]) -> None:
        """Count the words of a sentence; punctuation marks are neighbours, but never guesses."""
        for left, word, right in zip([EDGE, *words], words, [*words[1:], EDGE], strict=False):
            if not is_word(word):
                continue
            self._words[word] += 1
            if left in self._after:
                self._after[left][word] += 1
            if right in self._before:
                self._before[right][word] += 1
            if (left, right) in self._between:
                self._between[left, right][word] += 1

    def most_frequent(self) -> str:
        """Return the most frequent word, or '' if none was counted yet."""
        return self._best(self._words)

    def guess(self, context: Context) -> str:
        """Return the word seen most often between two neighbours.

        If none was seen there, return the commonest one after the left or before the right
        neighbour, whichever was seen more often; else the most frequent word.
        """
        left, right = context
        if self._between[context]:
            return self._best(self._between[context])
        after, before = self._best(self._after[left]), self._best(self._before[right])
        if self._after[left][after] or self._before[right][before]:
            behind_left = self._after[left][after] >= self._before[right][before]
            return after if behind_left else before
        return self.most_frequent()

    def _best(self, counts: dict[str, int]) -> str:
        """Return the commonest word; ties go to the one more frequent overall, then by letters."""
        ranked = ((-count, -self._words[word], word) for word, count in counts.items())
        return min(ranked, default=(0, 0, ""))[2]

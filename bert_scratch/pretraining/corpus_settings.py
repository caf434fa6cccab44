"""What the user says about a corpus: where its text is and how it becomes tokens."""

from __future__ import annotations

from dataclasses import dataclass

from bert_scratch.config import InputError, Settings, check_choice, check_range
from bert_scratch.data.corpus import DOCUMENT_RULES
from bert_scratch.data.mixture import check_mixture
from bert_scratch.data.segmenter import check_segmenter
from bert_scratch.data.sentences import check_sentence_rule

ENCODING_ERRORS = ("strict", "replace")


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """What text to learn from, and how it becomes tokens."""

    corpus: tuple[str, ...] = ()
    """Files, folders, globs, Wikipedia dumps or hf:NAME. Left out: Python's own documentation (plan needs it)."""  # noqa: E501
    documents: str = "auto"
    """What a document is: auto, blank-lines, files, lines or titles."""
    sentences: str = "auto"
    """How documents are split: auto, rules, lines (one each), pysbd or a function MODULE:NAME."""
    encoding_errors: str = "strict"
    """What to do with bytes that are not UTF-8: strict stops, replace continues."""
    mixture: tuple[str, ...] = ()
    """How often each --corpus path is drawn: share^0.7, or a weight for each. Left out: by size."""
    tokenizer: str | None = None
    """Use this tokenizer (a folder, tokenizer.json or vocab.txt). Left out: one is learned."""
    add_tokens: tuple[str, ...] = ()
    """Add words to the vocabulary of --tokenizer or --init-checkpoint: a file with one per line, or the words."""  # noqa: E501
    vocab_size: int | None = None
    """Entries of the vocabulary to be learned. Left out: by the amount of text and its script."""
    lowercase: bool | None = None
    """Lower-case the text. Left out: no; with a bare vocab.txt: as its entries are written."""
    strip_accents: bool | None = None
    """Remove combining marks; in many scripts these are vowels or tones. Left out: no."""
    word_segmenter: str | None = None
    """Store where words start, told by jieba or by a function MODULE:NAME from text to words."""
    eval_fraction: float | None = None
    """Share of documents held out. Left out: about 500 KB of text, between 0.1 and 10 %, more if there are few documents."""  # noqa: E501
    num_processes: int | None = None
    """Processes that tokenise. Left out: as many as there are cores. Never changes a byte."""

    def __post_init__(self) -> None:
        """Check each field and the fields against each other.

        Raises:
            InputError: naming the flag, what it must be and what it was.
        """
        check_choice("--documents", self.documents, DOCUMENT_RULES)
        check_sentence_rule(self.sentences)
        check_choice("--encoding-errors", self.encoding_errors, ENCODING_ERRORS)
        check_mixture(self.mixture, len(self.corpus))
        check_segmenter(self.word_segmenter)
        check_range("--vocab-size", self.vocab_size, at_least=16)
        check_range("--eval-fraction", self.eval_fraction, above=0, below=1)
        check_range("--num-processes", self.num_processes, at_least=1)
        if self.add_tokens and not self._has_vocabulary():
            raise InputError(
                "--add-tokens needs a vocabulary to add to: that of --tokenizer, or of pretrain's "
                "--init-checkpoint; one that is learned takes its words from the text"
            )
        if self.tokenizer is not None and self.vocab_size is not None:
            raise InputError(
                f"--vocab-size cannot be combined with --tokenizer: the tokenizer "
                f"{self.tokenizer} decides it; leave one of them out"
            )

    def _has_vocabulary(self) -> bool:
        """Tell whether the vocabulary is given, not learned."""
        return self.tokenizer is not None

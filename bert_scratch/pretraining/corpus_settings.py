"""What the user says about a corpus: where its text is and how it becomes tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bert_scratch.config import InputError, Settings, check_choice, check_range
from bert_scratch.data.corpus import DOCUMENT_RULES
from bert_scratch.data.mixture import check_mixture

SENTENCE_RULES = ("auto", "rules", "lines")
ENCODING_ERRORS = ("strict", "replace")


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """What text to learn from, and how it becomes tokens."""

    corpus: tuple[str, ...] = ()
    """Files, folders or globs of text: .txt, .jsonl, each also .gz. Left out: Python's own docs."""
    documents: str = "auto"
    """What a document is: auto, blank-lines, files, lines or titles."""
    sentences: str = "auto"
    """How documents are split into sentences: auto, rules, or lines (each line is one)."""
    encoding_errors: str = "strict"
    """What to do with bytes that are not UTF-8: strict stops, replace goes on."""
    mixture: tuple[str, ...] = ()
    """How often each --corpus path is drawn: share^0.7, or a weight each. Left out: as they are."""
    tokenizer: str | None = None
    """Use this tokenizer (a folder, tokenizer.json or vocab.txt). Left out: one is learned."""
    vocab_size: int | None = None
    """Entries of the vocabulary to be learned. Left out: by the amount of text and its script."""
    lowercase: bool | None = None
    """Lower-case the text. Left out: no; with a bare vocab.txt: as its entries are written."""
    strip_accents: bool | None = None
    """Remove combining marks; in many scripts these are vowels or tones. Left out: no."""
    word_segmenter: str | None = None
    """Store where words start, told by jieba or by a function MODULE:NAME from text to words."""
    eval_fraction: float | None = None
    """Share of documents held out. Left out: about 500 KB of text, between 0.1 and 10 %."""
    num_processes: int | None = None
    """Processes that tokenise. Left out: as many as there are cores. Never changes a byte."""

    def __post_init__(self) -> None:
        """Check each field and the fields against each other.

        Raises:
            InputError: naming the flag, what it must be and what it was.
        """
        check_choice("--documents", self.documents, DOCUMENT_RULES)
        check_choice("--sentences", self.sentences, SENTENCE_RULES)
        check_choice("--encoding-errors", self.encoding_errors, ENCODING_ERRORS)
        check_mixture(self.mixture, len(self.corpus))
        if self.mixture and len(set(self.corpus)) < len(self.corpus):
            raise InputError("--mixture: a --corpus path stands twice; give each one once")
        check_range("--vocab-size", self.vocab_size, at_least=16)
        check_range("--eval-fraction", self.eval_fraction, above=0, below=1)
        check_range("--num-processes", self.num_processes, at_least=1)
        if self.tokenizer is not None:
            self._check_decided_by(self.tokenizer)

    def _check_decided_by(self, tokenizer: str) -> None:
        """Refuse what the tokenizer says; a bare list of entries leaves its case open."""
        decided = ["vocab_size"]
        if not _is_bare_vocabulary(Path(tokenizer)):
            decided += ["lowercase", "strip_accents"]
        for name in decided:
            if getattr(self, name) is not None:
                raise InputError(
                    f"--{name.replace('_', '-')} cannot be combined with --tokenizer: the "
                    f"tokenizer {tokenizer} decides it; leave one of them out"
                )


def _is_bare_vocabulary(path: Path) -> bool:
    """Tell whether a tokenizer is a vocab.txt with nothing beside it that says how to read it."""
    folder = path if path.is_dir() else path.parent
    said = [folder / "tokenizer_config.json"]
    if path.is_dir():
        return (path / "vocab.txt").is_file() and not any(
            file.is_file() for file in (*said, path / "tokenizer.json")
        )
    return path.suffix == ".txt" and path.is_file() and not said[0].is_file()

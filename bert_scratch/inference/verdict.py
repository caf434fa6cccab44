"""What the results of `score` mean: use the model, train longer, or continue from another.

A model that restores hidden words no better than counts of their two neighbours has learned
nothing that needed a network; one that does better has. Between models, bits per character decide,
sentence by sentence, and only a difference above twice its standard error counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from bert_scratch.inference.estimate import Estimate
from bert_scratch.inference.score_answers import ModelScore
from bert_scratch.inference.score_questions import References

NOTHING, LITTLE, USEFUL = range(3)
_MANY_UNKNOWN = 0.01
_MOSTLY_UNKNOWN = 0.5
_MANY_PIECES = 2.0


def verdicts(
    models: Sequence[ModelScore], references: References, *, has_counts: bool = True
) -> list[str]:
    """Return a sentence for each model, then what to do.

    Args:
        models: at least one.
        references: baselines on the same questions.
        has_counts: whether the text has a rest to count in; otherwise no model can be judged by
            the counts.
    """
    lines = [f"{m.model}: {_judged(m, references, has_counts=has_counts)}" for m in models]
    ranked = sorted(
        (model for model in models if model.bits is not None), key=lambda m: _total_bits(m)
    )
    if not ranked:
        return [*lines, "No model has a masked language model head: only its vectors can be used."]
    return [*lines, _advice(ranked, references, has_counts=has_counts)]


def grade(model: ModelScore, references: References) -> int:
    """Return NOTHING, LITTLE or USEFUL, compared with the most frequent word and two neighbours."""
    assert model.masked_words is not None
    if _surely_above(model.masked_words, references.two_neighbours):
        return USEFUL
    if _surely_above(model.masked_words, references.most_frequent_word):
        return LITTLE
    return NOTHING


def _judged(model: ModelScore, references: References, *, has_counts: bool) -> str:
    if model.masked_words is None:
        return "has no masked language model head, so only its vectors were looked at."
    words = {
        NOTHING: "knows no more than which word is the most frequent",
        LITTLE: "knows more than word frequencies, but no more than counts of neighbouring words",
        USEFUL: "knows more than counts of neighbouring words",
    }[grade(model, references)]
    if not has_counts:
        words = "cannot be judged, since the text is one document and leaves none to count words in"
    remarks = []
    if model.unknown_words > _MANY_UNKNOWN:
        remarks.append(
            f"{model.unknown_words:.0%} of the words are [UNK] to it: its vocabulary is not made "
            f"for this text"
        )
    elif model.pieces_per_word > _MANY_PIECES:
        remarks.append(
            f"it cuts a word into {model.pieces_per_word:.1f} pieces: its vocabulary is not made "
            f"for this text"
        )
    if model.loses:
        remarks.append(f"its vocabulary loses {' and '.join(model.loses)}")
    return "; ".join([words, *remarks]) + "."


def _advice(ranked: Sequence[ModelScore], references: References, *, has_counts: bool) -> str:
    """Say what to do, given the models sorted by bits, fewest first."""
    best = ranked[0]
    assert best.bits is not None
    best_grade = grade(best, references)
    longer = f"bert-scratch pretrain --init-checkpoint {best.model} --corpus YOUR_CORPUS"
    if best_grade == NOTHING and min(model.unknown_words for model in ranked) > _MOSTLY_UNKNOWN:
        return (
            "Pretrain another model on such text: most words are [UNK] to every model here, "
            "which training longer does not change."
        )
    if has_counts and best_grade == NOTHING:
        return (
            "Train longer: no model here has learned the text's language yet. To train a run "
            "longer, repeat its command with --extend."
        )
    if has_counts and best_grade == LITTLE and len(ranked) == 1:
        return f"Train longer: with --extend, or on more text with `{longer}`."
    rivals = [model for model in ranked[1:] if model.bits is not None]
    alike = [m.model for m in rivals if m.bits and not _is_sure(best.bits.better_by(m.bits))]
    margin = ""
    if rivals and rivals[0].bits is not None and not alike:
        gain = best.bits.better_by(rivals[0].bits)
        margin = f", {gain.mean:.2f} +- {gain.standard_error:.2f} bits per character below the next"
    same = f" ({', '.join(alike)} cannot be told from it on this text)" if alike else ""
    if not has_counts:
        fewest = f"{best.model} has the fewest bits per character{margin}{same}. " if rivals else ""
        return (
            f"{fewest}To learn whether a model is any good, give a text of several documents, with "
            f"a blank line between them, or --documents lines."
        )
    if best_grade == LITTLE:
        return f"Continue from {best.model}{margin}{same}: `{longer}`."
    return (
        f"Use {best.model}{margin}{same}; for a text unlike what it was trained on, continue from "
        f"it: `{longer}`."
    )


def _total_bits(model: ModelScore) -> float:
    assert model.bits is not None
    return model.bits.per_character().mean


def _surely_above(found: Estimate, line: Estimate) -> bool:
    """Tell whether a share exceeds a baseline on the same questions by more than chance."""
    return found.mean - line.mean > 2 * found.standard_error


def _is_sure(gain: Estimate) -> bool:
    return gain.mean > 2 * gain.standard_error

"""Pins `score`: the same questions for every model, the same figures for a seed, and what is said
of them. CPU, needs scikit-learn: `pytest tests/inference/test_score.py`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch import cli
from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, TokenizerFolder, build_tokenizer
from bert_scratch.inference.bits_per_character import SentenceBits
from bert_scratch.inference.estimate import Estimate, proportion, ratio_of
from bert_scratch.inference.score import Score, ScoreConfig, score
from bert_scratch.inference.score_answers import ModelScore
from bert_scratch.inference.score_questions import References
from bert_scratch.inference.verdict import verdicts
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining

NOUNS, VERBS = "cat dog garden house".split(), "sees finds".split()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents = [
        "\n".join(
            f"The {NOUNS[d * s % 4]} {VERBS[s % 2]} a {NOUNS[(d + s) % 4]} in the house."
            for s in range(8)
        )
        for d in range(40)
    ]
    path = tmp_path_factory.mktemp("score") / "text.txt"
    path.write_text("\n\n".join(documents))
    return path


@pytest.fixture(scope="module")
def letters_folder(model: BertForPreTraining, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape whose vocabulary is letters, with capitals."""
    letters = [chr(c) for c in (*range(97, 123), 84)]
    tokens = [*SPECIAL_TOKENS, ".", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = build_tokenizer(
        {token: index for index, token in enumerate(tokens)},
        lowercase=False,
        strip_accents=False,
        nfc=False,
    )
    torch.manual_seed(1)
    config = model.config.from_dict(
        {**model.config.to_dict(), "vocab_size": len(tokens), "max_position_embeddings": 80}
    )
    path = tmp_path_factory.mktemp("score") / "letters"
    BertForPreTraining(config).save_pretrained(path, TokenizerFolder(tokenizer))
    return path


@pytest.fixture(scope="module")
def scored(folder: Path, letters_folder: Path, text: Path) -> Score:
    models = (str(folder), str(letters_folder))
    return score(ScoreConfig(model=models, text=str(text), num_lines=24))


def test_vocabularies_are_asked_about_the_same_characters(scored: Score) -> None:
    words, letters = scored.models
    assert words.bits is not None and letters.bits is not None
    np.testing.assert_array_equal(words.bits.characters, letters.bits.characters)
    assert scored.num_characters == words.bits.characters.sum()
    assert words.pieces_per_word == 1 and letters.pieces_per_word > 3
    assert words.loses == ("case",) and letters.loses == ()
    assert words.bits.restoring.sum() > 0 == letters.bits.restoring.sum()


def test_figures_do_not_depend_on_the_other_models(scored: Score, folder: Path, text: Path) -> None:
    alone = score(ScoreConfig(model=(str(folder),), text=str(text), num_lines=24))
    assert alone.references == scored.references
    assert alone.models[0].to_dict() == scored.models[0].to_dict()


def test_layers_above_the_embeddings_are_probed(scored: Score) -> None:
    assert [len(m.displaced_words) for m in scored.models] == [3, 3]


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertModel])
def test_model_without_a_head_is_asked_the_rest(
    kind: type[BertForMaskedLM] | type[BertModel],
    folder: Path,
    tokenizer: Tokenizer,
    text: Path,
    tmp_path: Path,
    scored: Score,
) -> None:
    kind.from_pretrained(folder).save_pretrained(tmp_path, TokenizerFolder(tokenizer))
    found = score(ScoreConfig(model=(str(tmp_path),), text=str(text), num_lines=24))
    answers, whole = found.models[0], scored.models[0]
    assert answers.next_sentence is None
    assert answers.nearest_sentence == whole.nearest_sentence
    if kind is BertForMaskedLM:
        assert answers.masked_words == whole.masked_words
    else:
        assert answers.bits is answers.masked_words is None
        assert "only its vectors" in found.verdicts[-1]


def test_model_of_another_pair_task_is_asked_the_rest(
    folder: Path, tokenizer: Tokenizer, text: Path, tmp_path: Path, scored: Score
) -> None:
    other = BertForPreTraining.from_pretrained(folder, pair_task="sop")
    other.save_pretrained(tmp_path, TokenizerFolder(tokenizer))
    found = score(ScoreConfig(model=(str(tmp_path),), text=str(text), num_lines=24))
    assert found.models[0].next_sentence is None
    assert found.models[0].masked_words == scored.models[0].masked_words


def test_lines_without_documents_have_no_pairs(folder: Path, text: Path) -> None:
    config = ScoreConfig(model=(str(folder),), text=str(text), num_lines=24, documents="lines")
    found = score(config)
    answers = found.models[0]
    assert found.num_pairs == 0 and found.references.next_sentence is None
    assert answers.next_sentence is answers.nearest_sentence is None
    assert answers.masked_words is not None


def test_a_text_of_one_document_judges_no_model_by_counts(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    lines = [
        f"The {NOUNS[s % 4]} {VERBS[s % 2]} a {NOUNS[s // 4 % 4]} in the house {s}."
        for s in range(60)
    ]
    path.write_text("\n".join(lines))
    found = score(ScoreConfig(model=(str(folder),), text=str(path), num_lines=24))
    assert found.num_other_characters == 0 and found.num_pairs == 0
    judged, advice = found.verdicts
    assert "cannot be judged, since the text is one document" in judged
    assert advice.startswith("To learn whether a model is any good, give a text of several")


def test_without_counts_the_fewest_bits_still_decide_between_models() -> None:
    models = [model_score(f"model-{n}", masked=0.4, bits=1.5 + n) for n in range(2)]
    advice = verdicts(models, LINES, has_counts=False)[-1]
    assert advice.startswith("model-0 has the fewest bits per character, 1.00 +-")


def test_json_has_each_figure_and_each_question(
    folder: Path, text: Path, capsys: pytest.CaptureFixture[str], scored: Score
) -> None:
    command = ["score", "--model", str(folder), "--text", str(text), "--num-lines", "24", "--json"]
    assert cli.main(command) == 0
    values = json.loads(capsys.readouterr().out)
    expected = json.loads(json.dumps(scored.models[0].to_dict()))
    assert values["models"] == [expected]
    assert values["models"][0]["bits"]["per_character"]["mean"] > 0
    assert values["verdicts"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--num-lines", "3"], "--num-lines must be >= 20"),
        (["--documents", "pages"], "--documents must be one of"),
        (["--text", "nowhere.txt"], "--text nowhere.txt: does not exist"),
        (["--num-threads", "0"], "--num-threads must be >= 1"),
        (["--model", "nowhere/at/all"], "no such folder"),
    ],
)
def test_wrong_input_is_one_line(
    flags: list[str],
    named: str,
    folder: Path,
    text: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "score",
        "--model",
        str(folder),
        *([] if "--text" in flags else ["--text", str(text)]),
    ]
    assert cli.main([*arguments, *flags]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_tokenizer_of_another_model_is_refused(
    folder: Path, letters_folder: Path, text: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "tokenizer.json").write_bytes((letters_folder / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="the tokenizer is not the model's"):
        score(ScoreConfig(model=(str(tmp_path),), text=str(text)))


def model_score(name: str, *, masked: float, bits: float, unknown: float = 0.0) -> ModelScore:
    random = np.random.default_rng(0)
    ones, none = np.full(50, 10.0), np.zeros(50)
    return ModelScore(
        model=name,
        num_parameters=1,
        vocab_size=9,
        bits=SentenceBits(
            characters=ones,
            tokens=10 * bits + random.standard_normal(50),
            unread=none,
            restoring=none,
        ),
        loses=(),
        pieces_per_word=1.2,
        unknown_words=unknown,
        masked_words=Estimate(mean=masked, standard_error=0.01),
        displaced_words=[Estimate(mean=0.5, standard_error=0.01)],
        next_sentence=None,
        nearest_sentence=None,
    )


LINES = References(
    uniform_bits=6.0,
    character_count_bits=4.5,
    compressed_bits=2.2,
    most_frequent_word=Estimate(mean=0.06, standard_error=0.01),
    two_neighbours=Estimate(mean=0.2, standard_error=0.01),
    next_sentence=None,
    nearest_sentence=None,
)


@pytest.mark.parametrize(
    ("masked", "advice"),
    [
        ([0.06], "Train longer: no model here has learned"),
        ([0.12], "Train longer: with --extend"),
        ([0.4], "Use model-0; "),
        ([0.12, 0.11], "Continue from model-0, 1.00 +-"),
        ([0.4, 0.12], "Use model-0, 1.00 +-"),
    ],
)
def test_advice_follows_from_the_reference_lines(masked: list[float], advice: str) -> None:
    models = [
        model_score(f"model-{n}", masked=share, bits=1.5 + n) for n, share in enumerate(masked)
    ]
    assert verdicts(models[::-1], LINES)[-1].startswith(advice)


def test_models_alike_are_said_to_be() -> None:
    models = [model_score(name, masked=0.4, bits=1.5) for name in ("one", "two")]
    assert "(two cannot be told from it on this text)" in verdicts(models, LINES)[-1]


def test_vocabulary_that_does_not_fit_is_named() -> None:
    lines = verdicts([model_score("one", masked=0.4, bits=1.5, unknown=0.07)], LINES)
    assert "7% of the words are [UNK]" in lines[0]


def test_training_longer_is_not_advised_to_a_model_that_cannot_read_the_text() -> None:
    lines = verdicts([model_score("one", masked=0.0, bits=9.0, unknown=1.0)], LINES)
    assert lines[-1].startswith("Pretrain another model") and "Train longer" not in lines[-1]


def test_standard_errors_are_those_of_repeated_sampling() -> None:
    random = np.random.default_rng(5)
    wholes = random.integers(5, 50, (2000, 80)).astype(float)
    parts = 2 * wholes + 5 * random.standard_normal(wholes.shape)
    found = [ratio_of(p, w) for p, w in zip(parts, wholes, strict=True)]
    spread = np.std([estimate.mean for estimate in found])
    assert np.mean([estimate.standard_error for estimate in found]) == pytest.approx(
        spread, rel=0.1
    )
    assert proportion([True, False, False, False]).mean == 0.25


def test_text_without_a_word_to_mask_is_refused_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "marks.txt"
    path.write_text("! ? , ! ? , !\n" * 120)
    place = ["--text", str(path), "--documents", "lines", "--sentences", "lines"]
    assert cli.main(["score", "--model", str(folder), *place]) == 2
    error = capsys.readouterr().err
    assert f"--text {path}: no token of its sentences can be masked" in error
    assert error.count("\n") == 1

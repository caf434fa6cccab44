"""Pins what `probe` learns from, its control task, and the command. CPU, needs scikit-learn and
matplotlib: `pytest tests/finetuning/test_probe.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bert_scratch import cli
from bert_scratch.config import BertConfig, InputError
from bert_scratch.data.wordpiece import SPECIAL_TOKENS, TokenizerFolder, build_tokenizer
from bert_scratch.finetuning.probe import ProbeConfig, control_labels, probe
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.probe_page import probe_page

WORDS = [f"{first}{second}" for first in "bcdfghklmn" for second in "aeiou"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights and a word for each of WORDS."""
    vocab = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *WORDS])}
    tokenizer = build_tokenizer(vocab, lowercase=True, strip_accents=False, nfc=False)
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    path = tmp_path_factory.mktemp("probe") / "model"
    BertForPreTraining(config).save_pretrained(path, TokenizerFolder(tokenizer))
    return path


def sentence(number: int) -> list[str]:
    return [WORDS[(number * 7 + place * place * 3) % len(WORDS)] for place in range(8)]


@pytest.fixture(scope="module")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words whose label is half of a word's type and half of where it stands: early or late."""
    path = tmp_path_factory.mktemp("probe") / "words.conll"
    lines = [
        "".join(
            f"{word} X {'early' if place < 4 else 'late'}\n"
            for place, word in enumerate(sentence(n))
        )
        for n in range(120)
    ]
    path.write_text("-DOCSTART- X O\n\n" + "\n".join(lines))
    return path


@pytest.fixture(scope="module")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts whose label says whether one of their words is among the first ten."""
    path = tmp_path_factory.mktemp("probe") / "texts.tsv"
    rows = (
        f"{' '.join(words)}\t{'yes' if set(words[2:]) & set(WORDS[:6]) else 'no'}"
        for words in map(sentence, range(400))
    )
    path.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    return path


def test_label_that_a_layer_holds_is_found_and_the_random_one_is_not(
    folder: Path, words_file: Path
) -> None:
    report = probe(ProbeConfig(model=str(folder), train_file=str(words_file)))
    assert report.unit == "word" and report.num_labels == 2
    assert (report.num_train, report.num_test) == (640, 320)
    assert [layer.layer for layer in report.layers] == [0, 1, 2]
    assert report.most_frequent_label.mean == 0.5
    assert report.layers[0].accuracy.mean > 0.9  # positions are part of the embeddings
    for layer in report.layers:
        assert layer.selectivity == layer.accuracy.mean - layer.control.mean


def test_texts_are_probed_by_their_mean(folder: Path, texts_file: Path) -> None:
    report = probe(ProbeConfig(model=str(folder), train_file=str(texts_file)))
    assert report.unit == "text"
    assert report.layers[0].accuracy.mean > report.most_frequent_label.mean


def test_control_labels_belong_to_words_and_are_as_frequent_as_the_real_ones() -> None:
    types = [f"word{n}" for n in range(2000)] * 2
    labels = ["a"] * 3 + ["b"]
    found = control_labels(types, labels, seed=1)
    assert (found[:2000] == found[2000:]).all()
    assert (found == "a").mean() == pytest.approx(0.75, abs=0.04)
    assert (found == control_labels(types, labels, seed=1)).all()
    assert (found != control_labels(types, labels, seed=2)).any()
    assert (
        control_labels(types[:9], labels, seed=1)
        == control_labels(types[:9][::-1], labels, seed=1)[::-1]
    ).all()


def test_column_of_the_label_can_be_chosen(folder: Path, words_file: Path) -> None:
    config = ProbeConfig(model=str(folder), train_file=str(words_file), label_column=("2",))
    with pytest.raises(InputError, match="has one label only, 'X'"):
        probe(config)


@pytest.mark.parametrize("kind", ["tags", "spans"])
def test_words_and_spans_in_json_are_probed_as_columns_are(
    folder: Path, words_file: Path, tmp_path: Path, kind: str
) -> None:
    labels = ["early"] * 4 + ["late"] * 4
    lines = []
    for number in range(120):
        words = sentence(number)
        ends = [3 * place for place in range(8)]  # words of two letters, a space between two
        spans = [[end, end + 2, label] for end, label in zip(ends, labels, strict=True)]
        tagged: dict[str, object] = {"tokens": words, "tags": labels}
        marked: dict[str, object] = {"text": " ".join(words), "spans": spans}
        lines.append(json.dumps(tagged if kind == "tags" else marked))
    path = tmp_path / "words.jsonl"
    path.write_text("\n".join(lines))
    found = probe(ProbeConfig(model=str(folder), train_file=str(path), unit="word"))
    columns = probe(ProbeConfig(model=str(folder), train_file=str(words_file)))
    assert found.layers == columns.layers


def test_test_file_is_what_the_probes_are_tested_on(
    folder: Path, words_file: Path, tmp_path: Path
) -> None:
    swapped = tmp_path / "swapped.conll"
    swapped.write_text(
        words_file.read_text().replace("early", "?").replace("late", "early").replace("?", "late")
    )
    config = ProbeConfig(
        model=str(folder), train_file=str(words_file), eval_file=str(swapped), num_examples=400
    )
    report = probe(config)
    assert (report.num_train, report.num_test) == (400, 200)
    assert report.layers[0].accuracy.mean < 0.1


@pytest.mark.parametrize(
    ("content", "flags", "named"),
    [
        ("one\n\n", [], "words.x:1: has no tags"),
        ("a X\nb\n", [], "words.x:2: has 1 column ('b')"),
        ("\n\n", [], "holds no examples"),
        ("a X\n" * 9, [], "0 labels"),
        ("a X\n\n" * 90, [], "has one label only, 'X'"),
        ("a X\n", ["--label-column", "tag"], "--label-column tag"),
        ("a X\n", ["--unit", "token"], "--unit must be one of"),
        ("a X\n", ["--output-html", "{path}/page.html"], "page.html: cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    content: str,
    flags: list[str],
    named: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "words.x"
    path.write_text(content)
    given = [flag.format(path=path) for flag in flags]
    assert cli.main(["probe", "--model", str(folder), "--train-file", str(path), *given]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_the_smallest_number_of_examples_is_enough(folder: Path, words_file: Path) -> None:
    asked = ProbeConfig(model=str(folder), train_file=str(words_file), num_examples=20)
    report = probe(asked)
    assert report.num_train >= 20 and report.num_test >= 20


def test_pairs_are_refused_naming_the_flag(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("sentence1\tsentence2\tlabel\n" + "ba\tbe\t1\n" * 40)
    with pytest.raises(InputError, match="--text-column"):
        probe(ProbeConfig(model=str(folder), train_file=str(path)))


def test_command_prints_json_and_writes_the_page(
    folder: Path, words_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    report = probe(ProbeConfig(model=str(folder), train_file=str(words_file)))
    command = ["probe", "--model", str(folder), "--train-file", str(words_file)]
    page = tmp_path / "page.html"
    assert cli.main([*command, "--json", "--output-html", str(page)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report.to_dict()))
    assert page.read_text() == probe_page(report) and "<svg" in page.read_text()
    assert cli.main(command) == 0
    assert "selectivity" in capsys.readouterr().out

"""Pins augmentation: which words change and what stays, labels and columns kept, all kinds of file.
Run alone: `pytest tests/inference/test_augment.py`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from bert_scratch import Augmenter, AugmentOptions, cli
from bert_scratch.config import InputError
from bert_scratch.inference.labelled_files import read_labelled_file
from bert_scratch.model.heads import BertForPreTraining

TEXTS = ["The cat  sees a believers, dog!", "?! ...", "", "x y z " * 30 + "cat"]


def test_only_the_chosen_share_of_words_changes(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    options = AugmentOptions(num_copies=8, replace_fraction=0.34)
    copies = Augmenter(model, tokenizer, options).copies(TEXTS)
    assert list(map(len, copies)) == [8, 0, 0, 8]
    assert len(set(copies[0])) > 1
    for copy in copies[0]:
        before, after = TEXTS[0].replace(",", " ,").split(), copy.replace(",", " ,").split()
        changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert len(changed) == 2, "a third of six words; never the word itself"
        assert all(b.rstrip("!").isalnum() for _, b in changed)
        assert "  " in copy and copy.endswith("!")
    for copy in copies[3]:
        assert copy.endswith(" z " + "cat"), "what is beyond a row stays"


def test_the_seed_decides_and_batches_do_not(
    monkeypatch: pytest.MonkeyPatch, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    texts, options = TEXTS * 3, AugmentOptions(num_copies=2, replace_fraction=0.5)
    first = Augmenter(model, tokenizer, options).copies(texts)
    assert Augmenter(model, tokenizer, options).copies(texts) == first
    other = options.replace(seed=1)
    assert Augmenter(model, tokenizer, other).copies(texts) != first


def test_greedy_copies_take_the_best_other_word(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    from bert_scratch import fill_mask

    options = AugmentOptions(replace_fraction=0.01, top_k=1)
    ((copy,),) = Augmenter(model, tokenizer, options).copies(["the cat sees a dog"])
    words = "the cat sees a dog".split()
    (place,) = [
        i for i, pair in enumerate(zip(words, copy.split(), strict=True)) if len(set(pair)) > 1
    ]
    masked = " ".join("[MASK]" if i == place else word for i, word in enumerate(words))
    (guesses,) = fill_mask(model, tokenizer, masked, top_k=model.config.vocab_size)
    others = [g.token for g in guesses if g.token.isalnum() and g.token != words[place]]
    assert copy.split()[place] == others[0]


ROWS = [
    {"id": "7", "text": 'the cat, "sees" a dog', "label": "good, very"},
    {"id": "8", "text": "x y", "label": "bad"},
]


def write(path: Path) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row | {"n": [1]}) + "\n" for row in ROWS))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(ROWS[0]))
            table.writeheader()
            table.writerows(ROWS)
    else:
        lines = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
        path.write_text("".join("\t".join(line) + "\n" for line in lines))


def read(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        quoting = csv.QUOTE_NONE if path.suffix == ".tsv" else csv.QUOTE_MINIMAL
        delimiter = "\t" if path.suffix == ".tsv" else ","
        return list(csv.DictReader(file, delimiter=delimiter, quoting=quoting))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl"])
def test_command_writes_each_row_and_its_copies(
    suffix: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source)
    place = ["--input", str(source), "--output", str(output), "--num-copies", "2"]
    assert cli.main(["augment", "--model", str(folder), *place]) == 0
    assert capsys.readouterr().out.startswith("2 rows and 4 changed copies")
    before, found = read(source), read(output)
    assert [row["id"] for row in found] == ["7", "7", "7", "8", "8", "8"]
    for number, row in enumerate(found):
        original = before[number // 3]
        assert {**row, "text": ""} == {**original, "text": ""}
        assert (row["text"] == original["text"]) == (number % 3 == 0)


@pytest.mark.parametrize(
    ("name", "content", "flags", "message"),
    [
        (
            "a.tsv",
            "sentence\tlabel\nx\t1\n",
            [],
            "no column 'text'; it has 'sentence', 'label'",
        ),
        ("a.tsv", "txt\tlabel\nx\t1\n", [], "did you mean 'txt'?"),
        ("a.tsv", "text\tlabel\nx\n", [], "a.tsv:2: has 1 cell, the header 2"),
        ("a.csv", "text,text\nx,y\n", [], "names the column 'text' twice"),
        ("a.csv", "text,label\n", [], "holds no examples"),
        ("a.jsonl", '{"text": 1}\n', [], "a.jsonl:1: needs a string under 'text'"),
        ("a.jsonl", "{\n", [], "a.jsonl:1: is not JSON"),
        (
            "a.jsonl",
            '{"text": "x", "spans": [[0, 1, "A"]]}\n',
            [],
            "a.jsonl:1: 'spans' marks characters of 'text'",
        ),
        ("a.jsonl", '{"text": "x", "label": {"A": {"x": [[0, 0]]}}}\n', [], "'label' marks"),
        ("a.txt", "x", [], "must both end in one of"),
        ("a.tsv", "text\nx\n", ["--replace-fraction", "2"], "--replace-fraction must be > 0"),
    ],
)
def test_wrong_input_is_one_line(
    name: str,
    content: str,
    flags: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).write_text(content)
    output = tmp_path / f"out{Path(name).suffix}"
    place = ["--input", str(tmp_path / name), "--output", str(output)]
    assert cli.main(["augment", "--model", str(folder), *place, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not output.exists()


def test_a_tokenizer_of_another_model_is_refused(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    small = BertForPreTraining(model.config.replace(vocab_size=30))
    with pytest.raises(InputError, match="the tokenizer is not the model's"):
        Augmenter(small, tokenizer, AugmentOptions()).copies(["b c d f g h"])


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "cat", "answer_start": 4}],
        {"text": ["cat", "a"], "answer_start": [4, 8]},
    ],
)
def test_only_the_text_that_places_are_marked_in_is_refused(
    answers: object, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    row = {"question": "who?", "context": "the cat", "answers": answers}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="'answers' marks characters of 'context'"):
        read_labelled_file(str(path), "context")
    assert read_labelled_file(str(path), "question").records[0].cells == row


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("context", {"answers": ["a", "b"]}),
        ("context", {"answers": {"text": [], "answer_start": []}}),
        ("context", {"answers": [{"text": "a"}]}),
        ("context", {"answers": None}),
        ("text", {"answers": [{"text": "cat", "answer_start": 4}]}),
        ("text", {"spans": []}),
        ("text", {"label": {}}),
        ("title", {"spans": [[0, 3, "A"]], "text": "the cat"}),
    ],
)
def test_labels_without_places_in_the_text_are_taken(
    column: str, labels: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({column: "a word", **labels}) + "\n")
    assert len(read_labelled_file(str(path), column).records) == 1


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(InputError, match=rf"--seed must be >= 0 and < \d+; got {seed}"):
        AugmentOptions(seed=seed)


@pytest.mark.parametrize("output", ["in.tsv", "new/../in.tsv", "link.tsv"])
def test_the_labelled_file_is_not_overwritten(
    output: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.tsv"
    write(source)
    (tmp_path / "link.tsv").symlink_to(source)
    before = source.read_bytes()
    place = ["--input", str(source), "--output", str(tmp_path / output)]
    assert cli.main(["augment", "--model", str(folder), *place]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is the file of --input" in line
    assert source.read_bytes() == before

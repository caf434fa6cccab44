"""Pins what a report reads, says and shows of runs; texts are escaped, errors are one line.
Runs anywhere, on small hand-made run folders: `pytest tests/views/test_report.py`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bert_scratch.cli import main
from bert_scratch.config import InputError
from bert_scratch.views.page import with_flags
from bert_scratch.views.report import report_page
from bert_scratch.views.report_charts import MAX_POINTS, charts, curves
from bert_scratch.views.report_data import RunRecord, figures, read_run, read_runs
from bert_scratch.views.report_warnings import warnings_of

FACTS = {"vocab_size": 8103, "uniform_loss": 9.0, "unigram_entropy": 6.5, "train_tokens": 12345}
SETTINGS = {"num_train_steps": 100, "num_warmup_steps": 5, "max_grad_norm": 1.0, "seed": 1}
Loss = Callable[[int], float]
MakeRun = Callable[..., Path]


def healthy(step: int) -> float:
    return 3.0 + 6.0 * math.exp(-step / 20)


def lines(train: Loss, held_out: Loss, pairs: Loss, rates: dict[str, float]) -> list[Any]:
    found: list[Any] = []
    for step in range(5, 101, 5):
        found.append(
            {
                "step": step, "split": "train", "loss": train(step) + pairs(step),
                "mlm_loss": train(step), "nsp_loss": pairs(step), "learning_rate": 1e-3,
                "grad_norm": 2.0, "grad_norm/embeddings": 1.5, "weight_norm/embeddings": 30.0,
                "tokens_per_s": 1000.0, "data_wait_fraction": 0.01, "padding_fraction": 0.05,
                "mfu": 0.2, "tokens": 50 * step, "elapsed_s": step / 2, **rates,
            }
        )  # fmt: skip
        if step % 20 == 0:
            accuracy = {"mlm_accuracy": 0.3, "nsp_accuracy": 0.9 if pairs(step) < 0.6 else 0.5}
            losses = {"mlm_loss": held_out(step), "nsp_loss": pairs(step)}
            found.append({"step": step, "split": "eval", **losses, **accuracy, "tokens": 50 * step})
    return found


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        name: str = "run",
        *,
        train: Loss = healthy,
        held_out: Loss = healthy,
        pairs: Loss = lambda step: 0.7 - step / 250,
        state: str = "done",
        hidden: str = "cat",
        **rates: float,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        status = {"state": state, "code": 0, "step": 100, "message": "a <b>message</b>"}
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "pretrain_config.json").write_text(json.dumps(SETTINGS))
        (folder / "corpus.json").write_text(json.dumps(FACTS))
        log = "".join(json.dumps(line) + "\n" for line in lines(train, held_out, pairs, rates))
        (folder / "metrics.jsonl").write_text(log)
        sentence = {
            "before": "the <script>alert(1)</script>",
            "hidden": hidden,
            "after": "runs & sleeps",
            "guesses": [{"token": "cat", "score": 0.5}, {"token": "</script>", "score": 0.25}],
        }
        said = [{"step": step, "sentences": [sentence]} for step in (0, 50, 100)]
        (folder / "fill_ins.jsonl").write_text("".join(json.dumps(s) + "\n" for s in said))
        return folder

    return make


def read(folder: Path) -> RunRecord:
    return read_run(folder, folder.name)


def test_healthy_run_has_no_warning(make_run: MakeRun) -> None:
    assert warnings_of(read(make_run())) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"held_out": lambda _: 6.55}, "stuck at the unigram line"),
        ({"held_out": lambda _: 9.4}, "no better than guessing"),
        ({"pairs": lambda _: 0.693}, "Pairs are judged no better than by chance"),
        ({"train": lambda s: healthy(s) + 2.0 * (s == 60)}, "jumped once, highest at step 60"),
        ({"train": lambda s: healthy(s) + 4.0 * (s == 10)}, "jumped once, highest at step 10"),
        ({"held_out": lambda s: 4 + abs(s - 40) / 100}, "has risen since step 40"),
        ({"held_out": lambda s: 4 + abs(s - 40) / 100}, "lowest loss is the result; more text"),
        ({"padding_fraction": 0.4}, "40% of the computed positions were padding"),
        ({"data_wait_fraction": 0.3}, "30% of the time of steps was spent waiting for data"),
        ({"state": "failed"}, "The run failed"),
    ],
)
def test_each_illness_is_told_and_no_other(
    make_run: MakeRun, changes: dict[str, Any], words: str
) -> None:
    (found,) = warnings_of(read(make_run(**changes)))
    assert words in found


def test_flag_with_a_digit_stands_out_whole() -> None:
    assert with_flags("a smaller --adam-beta2.") == "a smaller <code>--adam-beta2</code>."


def test_slower_machine_is_told(make_run: MakeRun) -> None:
    folder = make_run()
    text = (folder / "metrics.jsonl").read_text().splitlines()
    changed = [json.loads(line) for line in text]
    for line in changed[len(changed) // 2 :]:
        line["tokens_per_s"] = 100.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(c) + "\n" for c in changed))
    (found,) = warnings_of(read(folder))
    assert "100 tokens per second in the last quarter, 1,000" in found


def test_beginning_of_a_run_is_not_called_a_plateau(make_run: MakeRun) -> None:
    folder = make_run(held_out=lambda _: 6.55, pairs=lambda _: 0.693, state="running")
    settings = SETTINGS | {"num_train_steps": 1000}
    (folder / "pretrain_config.json").write_text(json.dumps(settings))
    assert warnings_of(read(folder)) == []


def test_run_made_longer_shows_its_newest_figures(make_run: MakeRun) -> None:
    folder = make_run()
    end = {"step": 100, "split": "eval", "mlm_loss": 4.5, "unigram_loss": 6.4}
    longer = {"step": 150, "split": "eval", "mlm_loss": 4.0}
    new_end = {"step": 200, "split": "eval", "mlm_loss": 3.0, "unigram_loss": 6.4}
    with (folder / "metrics.jsonl").open("a") as file:
        for line, newest in ((end, 4.5), (longer, 4.0), (new_end, 3.0)):
            file.write(json.dumps(line) + "\n")
            file.flush()
            assert read(folder).last_evaluation["mlm_loss"] == newest


def test_losses_stand_beside_their_reference_lines(make_run: MakeRun) -> None:
    first, second = charts([read(make_run())])["Losses"]
    assert [r["value"] for r in first["references"]] == [9.0, 6.5]
    assert second["references"] == [
        {"label": "guessing, ln 2", "value": pytest.approx(0.6931, abs=1e-4)}
    ]


def test_runs_share_charts_but_for_modules_and_alike_references(make_run: MakeRun) -> None:
    runs = [read(make_run("one")), read(make_run("two"))]
    found = charts(runs)
    assert len(found["Losses"][0]["references"]) == 2
    assert [chart["title"] for chart in found["Modules"]] == [
        "Gradient norm by module: one",
        "Weight norm by module: one",
        "Gradient norm by module: two",
        "Weight norm by module: two",
    ]
    assert all(chart["run"] is None for chart in found["Speed"])


def test_long_log_is_thinned_and_keeps_its_highest_loss_and_its_end(make_run: MakeRun) -> None:
    folder = make_run()
    made = [{"step": s, "split": "train", "loss": 9.0 if s == 7001 else 2.0} for s in range(10000)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in made))
    columns = curves(read(folder))["train"]
    assert len(columns["step"]) <= MAX_POINTS
    assert columns["loss"][columns["step"].index(7001)] == 9.0
    assert columns["step"][-1] == 9999


def test_page_has_no_way_out_and_corpus_text_is_inert(make_run: MakeRun) -> None:
    html = report_page([read(make_run())])
    assert "default-src 'none'" in html and "http://" not in html.replace("http://www.w3.org", "")
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html
    assert "<b>message</b>" not in html
    assert 'class="guess right"><bdi>cat' in html


def test_same_run_gives_the_same_bytes(make_run: MakeRun) -> None:
    run = read(make_run())
    assert report_page([run]) == report_page([run])


def test_wrong_guess_is_not_marked(make_run: MakeRun) -> None:
    assert "guess right" not in report_page([read(make_run(hidden="dog"))])


def test_differing_settings_come_first(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two")
    (two / "pretrain_config.json").write_text(json.dumps(SETTINGS | {"seed": 2}))
    html = report_page(read_runs([one, two]))
    differing = html[html.index("What differs") : html.index("All settings")]
    assert "seed" in differing and "num_train_steps" not in differing


def test_fine_tuning_run_shows_its_metrics(tmp_path: Path) -> None:
    (tmp_path / "finetune_config.json").write_text('{"num_train_steps": 4}')
    log = [
        {"step": 2, "split": "train", "loss": 0.6, "learning_rate": 1e-4},
        {"step": 4, "split": "eval", "loss": 0.5, "accuracy": 0.75, "matthews": 0.25},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (tmp_path / "results.json").write_text('{"versions": {"torch": "9"}}')
    run = read(tmp_path)
    assert run.kind == "Fine-tuning" and run.versions == {"torch": "9"}
    assert figures(run)["held-out accuracy"] == "75.0%"
    titles = [c["title"] for part in charts([run]).values() for c in part]
    assert titles == ["Loss", "Accuracy", "Matthews", "Learning rate"]


def test_loss_of_a_task_is_shown_and_watched_beside_that_of_masked_tokens(tmp_path: Path) -> None:
    (tmp_path / "finetune_config.json").write_text('{"num_train_steps": 200}')
    log: list[dict[str, object]] = [
        {
            "step": step, "split": "train", "loss": 2.0 if step == 100 else 0.5,
            "mlm_loss": 6.0 if step == 160 else 3.0,
        }
        for step in range(10, 201, 10)
    ]  # fmt: skip
    log.append({"step": 200, "split": "eval", "loss": 0.4, "accuracy": 0.75})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    run = read(tmp_path)
    titles = [chart["title"] for chart in charts([run])["Losses"]]
    assert titles == ["Loss", "Masked-token loss"]
    assert figures(run)["held-out loss"] == "0.4"
    (found,) = warnings_of(run)
    assert "jumped once, highest at step 100 (2.00)" in found


@pytest.mark.parametrize(
    ("chosen", "result"),
    [
        ({"metric": "accuracy", "keep": "best"}, "The model of the best accuracy is the result"),
        ({"metric": "loss", "keep": "best"}, "The model of the lowest loss is the result"),
        ({"metric": "accuracy", "keep": "last"}, "The last model is the result"),
    ],
)
def test_rising_loss_of_fine_tuning_names_the_model_that_is_kept(
    tmp_path: Path, chosen: dict[str, str], result: str
) -> None:
    (tmp_path / "finetune_config.json").write_text(json.dumps({"num_train_steps": 40, **chosen}))
    losses = enumerate([0.5, 0.4, 0.5, 0.6], start=1)
    log = [{"step": 10 * n, "split": "eval", "loss": x, "accuracy": 0.7} for n, x in losses]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    (found,) = warnings_of(read(tmp_path))
    assert "has risen since step 20" in found and result in found


def test_mistakes_of_a_classifier_are_shown_and_their_texts_are_inert(make_run: MakeRun) -> None:
    folder = make_run()
    found = {
        "labels": ["<b>bad", "good"],
        "confusion": [[3, 1], [0, 12]],
        "num_wrong": 1,
        "num_examples": 16,
        "worst": [
            {
                "place": "dev.tsv:7", "text": "a <script>alert(1)</script>", "text_pair": "<i>dull",
                "label": "<b>bad", "probability": 0.0421, "answer": "good",
                "answer_probability": 0.9579,
            }
        ],
    }  # fmt: skip
    (folder / "mistakes.json").write_text(json.dumps(found))
    html = report_page([read(folder)])
    assert "1 of 16 held-out examples are answered wrong" in html
    assert 'class="n right" style="--share: 75%">3<' in html
    assert 'class="n" style="--share: 25%">1<' in html
    assert "4.2%" in html and "95.8%" in html and "dev.tsv:7" in html
    assert "<script>alert" not in html and "<b>bad" not in html and "<i>dull" not in html


def test_too_many_labels_leave_the_worst_examples_alone(make_run: MakeRun) -> None:
    folder = make_run()
    found = {"labels": [], "confusion": None, "num_wrong": 0, "num_examples": 2, "worst": []}
    (folder / "mistakes.json").write_text(json.dumps(found))
    html = report_page([read(folder)])
    assert "0 of 2 held-out" in html and "<table class=" not in html


def test_run_that_was_killed_in_a_line_is_read(make_run: MakeRun) -> None:
    folder = make_run()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10')
    assert read(folder).step == 100


def test_broken_line_is_named(make_run: MakeRun) -> None:
    folder = make_run()
    text = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([text[0], "[1]", *text[1:]]))
    with pytest.raises(InputError, match=r"metrics.jsonl:2"):
        read(folder)


def test_command_writes_the_page_into_the_run_and_says_what_it_found(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(padding_fraction=0.4)
    assert main(["report", "--run", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "held-out masked-token loss" in out and "warning: 40% of" in out
    assert "<!DOCTYPE html>" in (folder / "report.html").read_text()
    assert main(["report", "--run", str(folder), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["state"] == "done" and len(told["warnings"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no such folder"),
        (["."], "holds no run"),
        (["one", "two"], "--output is needed"),
        (["one", "one"], "different folders"),
        (["one", "--output", "one/metrics.jsonl/page.html"], "cannot be written"),
        (["one", "--output", "two"], "is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    arguments: list[str],
    words: str,
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_run("one"), make_run("two")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "--run", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_folder_of_several_seeds_names_the_runs_below_it(make_run: MakeRun) -> None:
    folder = make_run("seed-1")
    with pytest.raises(InputError, match="runs below it: --run .*seed-1"):
        read_run(folder.parent, "all")

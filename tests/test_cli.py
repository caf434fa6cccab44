"""Pins the command line: a right command does its work, a wrong one ends with one clear line, exit
code 2 and no traceback. Mostly in this process, CPU only: `pytest tests/test_cli.py`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from bert_scratch.cli import main, parse
from bert_scratch.commands import COMMANDS
from bert_scratch.config import InputError, Settings
from bert_scratch.pretraining.pretrain_config import PretrainConfig

Run = Callable[..., tuple[int, str, str]]

TINY = (
    "--preset tiny --hidden-size 32 --num-attention-heads 2 --vocab-size 120 --max-seq-length 32 "
    "--train-batch-size 4 --num-train-steps 3 --num-threads 1 --num-processes 1 --device cpu "
    "--eval-fraction 0.1 --dtype float32"
).split()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text file of 60 documents of five sentences."""
    animals, places = "cat dog bird fish horse".split(), "garden house river forest".split()
    documents = [
        "\n".join(
            f"The {animals[(i * j) % 5]} number {i} sees the {places[(i + j) % 4]}."
            for j in range(1, 6)
        )
        for i in range(60)
    ]
    path = tmp_path_factory.mktemp("corpus") / "animals.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """The folder of a finished run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["pretrain", "--corpus", str(corpus), "--output-dir", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Return a function that runs a wrong command and returns the line that says what is wrong."""

    def call(*arguments: object) -> str:
        code, _, errors = run(*arguments)
        assert code == 2
        assert errors.startswith("error: ") and errors.endswith("\n")
        return errors[:-1]

    return call


def one_line(error: str) -> str:
    assert "\n" not in error
    return error


def test_help_lists_the_commands(run: Run) -> None:
    code, out, _ = run("--help")
    lines = out.splitlines()
    assert code == 0
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in lines), name


@pytest.mark.parametrize("command", COMMANDS)
def test_summary_of_a_command_is_the_first_line_of_its_settings(command: str) -> None:
    described = inspect.getdoc(load(COMMANDS[command].settings)) or ""
    assert described.splitlines()[0] == f"{COMMANDS[command].summary}."


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_a_sentence_for_every_flag(command: str, run: Run) -> None:
    code, out, _ = run(command, "--help")
    assert code == 0
    entries = out.partition("\nflags:\n")[2].split("\n  -")[1:]
    assert len(entries) >= 3
    for entry in entries:
        assert entry.rstrip().endswith(".") or entry.rstrip().endswith(":"), entry


def test_no_command_is_refused(refused: Callable[..., str]) -> None:
    assert "pretrain" in one_line(refused())


def test_misspelt_command_is_refused_with_a_suggestion(refused: Callable[..., str]) -> None:
    assert "did you mean 'pretrain'?" in one_line(refused("pretrian"))


def test_misspelt_flag_is_refused_with_a_suggestion(refused: Callable[..., str]) -> None:
    error = one_line(refused("pretrain", "--trian-batch-size", 3))
    assert "--trian-batch-size (did you mean '--train-batch-size'?)" in error


def misspelt(name: str) -> list[str]:
    """Return a name with each letter left out, and each two neighbours swapped."""
    dropped = [name[:i] + name[i + 1 :] for i in range(1, len(name))]
    swapped = [name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)]
    return [wrong for wrong in dropped + swapped if wrong != name]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_misspelt_flag_and_key_is_refused_with_the_right_suggestion(
    command: str, record_property: Callable[[str, object], None]
) -> None:
    settings = load(COMMANDS[command].settings)
    fields = dataclasses.fields(settings)
    names = [field.name for field in fields if not field.name.endswith("_")]  # --as is as_
    right = total = 0
    for name in names:
        flag = "--" + name.replace("_", "-")
        for wrong in misspelt(name):
            if wrong in names:
                continue
            with pytest.raises(InputError, match="unknown key") as error:
                settings.from_dict({wrong: 1})
            right += f"{name!r}" in str(error.value)
            total += 1
            if len(wrong) == len(name):
                continue  # a parser is made for each; of the swapped letters keys are enough
            with pytest.raises(InputError, match="unknown") as error:
                parse(settings, ["--" + wrong, "1"], prog=command)
            right += f"'{flag}'" in str(error.value)
            total += 1
    record_property("share_of_right_suggestions", right / total)
    print(f"{command}: {right} of {total} suggestions are right")
    assert right >= 0.95 * total


def load(place: str) -> type[Settings]:
    module, _, name = place.partition(":")
    loaded: type[Settings] = getattr(importlib.import_module(f"bert_scratch.{module}"), name)
    return loaded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-train-steps", "many"], "--num-train-steps: invalid int value: 'many'"),
        (["--learning-rate", "fast"], "--learning-rate: invalid float value: 'fast'"),
        (["--micro-batch-size", "all"], "--micro-batch-size: invalid auto or int value: 'all'"),
        (["--learning-rate", "nan"], "--learning-rate must be > 0; got nan"),
        (["--num-train-steps", "-3"], "--num-train-steps must be >= 1; got -3"),
        (["--num-train-steps"], "--num-train-steps: expected one argument"),
        (["--num-train-steps", "3", "4"], "argument without a flag: 4"),
        (["--corpus"], "--corpus: expected at least one argument"),
        (["--corpus", ""], "--corpus: the value is empty"),
        (["--output-dir="], "--output-dir: the value is empty"),
        (["--dry-run=yes"], "--dry-run"),
        (["--preset", "tinny"], "did you mean 'tiny'?"),
        (["--corpus", "a", "--data", "b"], "--corpus and --data exclude each other"),
        (["--tokenizer", "a", "--vocab-size", "99"], "--vocab-size cannot be combined"),
        (["--data", "a", "--vocab-size", "99"], "--vocab-size has no effect with --data"),
        (["--config"], "--config: expected one argument"),
        (["--config", "absent.json"], "absent.json: cannot be read"),
    ],
)
def test_wrong_value_is_refused_naming_the_flag(
    arguments: list[str], message: str, refused: Callable[..., str]
) -> None:
    assert message in one_line(refused("pretrain", *arguments))


def test_missing_flag_is_named(refused: Callable[..., str]) -> None:
    assert "needs --model and --data" in one_line(refused("evaluate"))


def test_repeated_list_flag_adds_up() -> None:
    twice = parse(PretrainConfig, "--corpus a --corpus b".split(), prog="p")
    assert twice == parse(PretrainConfig, "--corpus a b".split(), prog="p")
    assert isinstance(twice, PretrainConfig) and twice.corpus == ("a", "b")


def test_underscores_are_dashes_in_flags_but_not_in_values() -> None:
    parsed = parse(PretrainConfig, ["--max_seq_length=64", "--corpus=my_texts"], prog="p")
    assert isinstance(parsed, PretrainConfig)
    assert (parsed.max_seq_length, parsed.corpus) == (64, ("my_texts",))


@pytest.mark.parametrize("name", ["dry_run", "deterministic", "lowercase", "mask_special"])
def test_boolean_flag_has_a_no_form(name: str) -> None:
    flag = name.replace("_", "-")
    on = parse(PretrainConfig, [f"--{flag}"], prog="p")
    off = parse(PretrainConfig, [f"--{flag}", f"--no-{flag}"], prog="p")
    assert getattr(on, name) is True and getattr(off, name) is False


def test_flags_come_on_top_of_the_config_file(tmp_path: Path) -> None:
    path = tmp_path / "saved.json"
    path.write_text(PretrainConfig(seed=1, corpus=("a",), num_train_steps=5).to_json())
    parsed = parse(PretrainConfig, ["--config", str(path), "--seed", "2"], prog="p")
    assert parsed == PretrainConfig(seed=2, corpus=("a",), num_train_steps=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"vocab_siz": 99}', "saved.json: unknown key 'vocab_siz' (did you mean 'vocab_size'?)"),
        ('{"vocab_size": "x"}', "vocab_size must be int"),
        ("[1]", "saved.json: must hold a JSON object"),
    ],
)
def test_wrong_config_file_is_refused_naming_file_and_key(
    text: str, message: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / "saved.json"
    path.write_text(text)
    assert message in one_line(refused("pretrain", "--config", path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, "--corpus {path}: does not exist"),
        ("empty.txt", b"", "--corpus {path}: holds no text"),
        ("latin.txt", b"A line.\n\nA caf\xe9.\n", "{path}, line 3: has byte 0xe9"),
        ("utf16.txt", "A line.\n".encode("utf-16"), "{path}: is UTF-16"),
        ("bad.jsonl", b'{"text": "a"}\n{bad\n', "{path}, line 2: is not valid JSON"),
        ("key.jsonl", b'{"texts": "a"}\n', "{path}, line 1: needs an object with a string under"),
        ("broken.txt.gz", b"not compressed\n", "{path}: cannot be read"),
        ("one.txt", b"One sentence.\nAnother one.\nA third.\n", "--corpus"),
        ("page.json", b"{}", "--corpus {path}: .json is not read"),
    ],
)
def test_unusable_corpus_is_refused_naming_the_file(
    name: str, content: bytes | None, message: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    folder = tmp_path / "prepared"
    error = refused("prepare", "--corpus", path, "--output-dir", folder, "--num-processes", 1)
    assert message.format(path=path) in one_line(error)


def test_holding_out_everything_is_refused_naming_the_flag(
    corpus: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    arguments = ["--corpus", corpus, "--output-dir", tmp_path / "p", "--num-processes", 1]
    assert "--eval-fraction" in one_line(refused("prepare", *arguments, "--eval-fraction", 0.9999))


@pytest.mark.parametrize("command", ["prepare", "pretrain", "convert"])
def test_output_folder_that_cannot_be_written_is_refused(
    command: str, corpus: Path, finished: Path, refused: Callable[..., str]
) -> None:
    source = ["--input", finished / "model"] if command == "convert" else ["--corpus", corpus]
    below_a_file = corpus / "folder"
    error = one_line(refused(command, *source, "--output-dir", below_a_file))
    assert f"--output-dir {below_a_file}: cannot be written" in error


def test_data_that_is_no_prepared_corpus_is_refused(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    error = refused("pretrain", "--data", tmp_path, "--output-dir", tmp_path / "run")
    assert f"{tmp_path}: holds no prepared corpus" in one_line(error)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dtype", "float8"], "--dtype"),
        (["--device", "gpu"], "--device must be"),
        (["--max-seq-length", 32, "--max-position-embeddings", 16], "--max-seq-length 32"),
        (["--hidden-size", 33], "hidden_size=33"),
        (["--init-checkpoint", "x", "--preset", "tiny"], "--preset cannot be combined"),
        (["--resume", "must"], "--resume must"),
    ],
)
def test_setting_that_cannot_be_is_refused_naming_it(
    flags: list[object], message: str, corpus: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    error = refused("pretrain", "--corpus", corpus, "--output-dir", tmp_path / "run", *TINY, *flags)
    assert message in one_line(error)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "gpu"], "--device must be"),
        (["--dtype", "float8"], "--dtype must be"),
        (["--device", "cpu", "--packed"], "--packed: its kernels are for GPUs"),
    ],
)
def test_what_the_machine_cannot_do_is_refused_before_the_corpus_is_prepared(
    flags: list[object], message: str, corpus: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    run = tmp_path / "run"
    error = refused("pretrain", "--corpus", corpus, "--output-dir", run, *flags)
    assert message in one_line(error)
    assert not (run / "corpus").exists()


def test_finished_run_given_again_says_so(corpus: Path, finished: Path, run: Run) -> None:
    code, out, _ = run("pretrain", "--corpus", corpus, "--output-dir", finished, *TINY)
    assert code == 0 and "this run is already finished" in out


def test_changed_settings_are_refused_with_a_list_of_them(
    corpus: Path, finished: Path, refused: Callable[..., str]
) -> None:
    changed = [*TINY, "--learning-rate", 0.5, "--eval-fraction", 0.2]
    error = refused("pretrain", "--corpus", corpus, "--output-dir", finished, *changed)
    assert "--learning-rate: was left out, now 0.5" in error
    assert "--eval-fraction: was 0.1, now 0.2" in error
    assert "--init-checkpoint" in error


def test_settings_of_a_finished_run_start_a_new_one(
    finished: Path, tmp_path: Path, run: Run
) -> None:
    saved = finished / "pretrain_config.json"
    code, _, _ = run("pretrain", "--config", saved, "--output-dir", tmp_path / "again")
    assert code == 0
    again = (tmp_path / "again" / "model" / "model.safetensors").read_bytes()
    assert again == (finished / "model" / "model.safetensors").read_bytes()


def test_dry_run_trains_nothing(corpus: Path, tmp_path: Path, run: Run) -> None:
    folder = tmp_path / "run"
    code, out, _ = run("pretrain", "--corpus", corpus, "--output-dir", folder, *TINY, "--dry-run")
    assert code == 0 and "nothing was trained" in out
    assert not (folder / "model").exists()


def test_prepared_corpus_is_used_again_and_refused_when_its_text_changed(
    corpus: Path, tmp_path: Path, run: Run, refused: Callable[..., str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(corpus.read_bytes())
    command = ["prepare", "--corpus", text, "--output-dir", tmp_path / "p", "--num-processes", 1]
    assert run(*command)[0] == 0
    code, out, _ = run(*command)
    assert code == 0 and "already prepared" in out
    with text.open("a") as file:
        file.write("\n\nA new end.\n")
    assert "text.txt has changed" in refused(*command)


def test_evaluate_prints_json(finished: Path, run: Run) -> None:
    places = ["--model", finished / "model", "--data", finished / "corpus"]
    code, out, _ = run("evaluate", *places, "--max-seq-length", 32, "--json", "--device", "cpu")
    assert code == 0 and json.loads(out)["mlm_loss"] > 0


def test_fill_mask_reads_texts_from_standard_input(
    finished: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The [MASK] sees.\n\nA [MASK].\n"))
    code, out, errors = run("fill-mask", "--model", finished / "model", "--text", "-", "--json")
    assert (code, errors) == (0, "")
    assert [json.loads(line)["text"] for line in out.splitlines()] == [
        "The [MASK] sees.",
        "A [MASK].",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "no mask"], "needs at least one [MASK]; got 'no mask'"),
        (["--text", "[MASK]", "--top-k", 0], "--top-k must be >= 1; got 0"),
        (["--text", "[MASK] " + "cat " * 600], "max_position_embeddings"),
    ],
)
def test_fill_mask_refuses_what_it_cannot_answer(
    arguments: list[object], message: str, finished: Path, refused: Callable[..., str]
) -> None:
    assert message in one_line(refused("fill-mask", "--model", finished / "model", *arguments))


@pytest.mark.parametrize("command", ["fill-mask", "compare-hf"])
def test_folder_that_is_no_model_is_refused_with_the_one_inside(
    command: str, finished: Path, refused: Callable[..., str]
) -> None:
    if command == "compare-hf":
        pytest.importorskip("transformers")
    error = one_line(refused(command, "--model", finished, "--text", "[MASK]"))
    assert f"did you mean {finished / 'model'}?" in error


def test_next_sentence_scores_a_pair(finished: Path, run: Run) -> None:
    pair = ["--a", "The cat sees.", "--b", "The dog sees."]
    code, out, errors = run("next-sentence", "--model", finished / "model", *pair)
    assert (code, errors) == (0, "") and out.startswith("is next 0.")


def test_next_sentence_names_the_line_of_standard_input_without_a_tab(
    finished: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\tb\nno tab\n"))
    error = one_line(refused("next-sentence", "--model", finished / "model", "--a", "-"))
    assert "line 2: has no tab" in error


def test_convert_refuses_a_folder_that_is_in_use(
    finished: Path, refused: Callable[..., str]
) -> None:
    model = finished / "model"
    error = refused("convert", "--input", model, "--output-dir", finished)
    assert "exists and is not an empty folder" in one_line(error)


def start(repository: Path, *arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start a command as a user would, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=repository,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


@pytest.mark.parametrize("door", [["-m", "bert_scratch", "pretrain"], ["pretrain.py"]])
def test_doors_refuse_a_misspelt_flag_alike(door: list[str], repository: Path) -> None:
    process = start(repository, *door, "--sede", 1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "did you mean '--seed'?" in one_line(errors[:-1])


def test_misspelt_flag_of_prepare_is_refused_without_importing_torch(repository: Path) -> None:
    code = (
        "import sys; from bert_scratch.cli import main; "
        "assert main(['prepare', '--vocab-siz', '9']) == 2; sys.exit('torch' in sys.modules)"
    )
    process = start(repository, "-c", code)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_disk_that_is_full_for_the_weights_is_said_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("bert_scratch.inference.convert.run_convert", write)
    code, _, errors = run("convert", "--input", "a", "--output-dir", "b")
    assert (code, errors) == (1, "error: I/O error: No space left on device (os error 28)\n")


def test_output_is_utf8_whatever_the_locale_says(repository: Path) -> None:
    code = (
        "from bert_scratch import cli; cli.run_command = lambda *_: print('中文') or 0; "
        "cli.main(['predict'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    process = start(repository, "-c", code, env=environment, encoding="utf-8")
    assert process.communicate(timeout=60) == ("中文\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes only there")
def test_argument_that_is_no_text_is_refused(repository: Path) -> None:
    command = ["-m", "bert_scratch", "fill-mask", "--text", "a [MASK]", "--model"]
    process = start(repository, *command, os.fsdecode(b"caf\xe9"))
    said = "error: 'caf\\udce9' is not utf-8 text; give the file another name"
    output, errors = process.communicate(timeout=60)
    assert (output, process.returncode) == ("", 2)
    assert errors.startswith(said) and errors.count("\n") == 1


def test_output_that_nobody_reads_ends_quietly(repository: Path) -> None:
    with start(repository, "-m", "bert_scratch", "prepare", "--help") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_a_closed_standard_output_is_no_error(repository: Path) -> None:
    code = "import os, sys; os.close(1); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-m", "bert_scratch", "prepare", "--help"]
    process = start(repository, "-c", code, *command)
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", 0)


@pytest.mark.parametrize("door", ["pretrain.py", "bert_scratch/__main__.py"])
def test_stop_while_the_command_line_is_imported_exits_with_75(door: str, repository: Path) -> None:
    interrupted = f"""
import runpy, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "bert_scratch.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
sys.path.insert(0, ".")
runpy.run_path({door!r}, run_name="__main__")
"""
    process = start(repository, "-c", interrupted)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert one_line(errors[:-1]) == "stopped before anything was begun"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_stopped_run_exits_with_75(
    number: signal.Signals, corpus: Path, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    long = [*TINY, "--num-train-steps", 20000, "--logging-steps", 1]
    process = start(repository, "pretrain.py", "--corpus", corpus, "--output-dir", folder, *long)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step"):
            break
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in one_line(errors[:-1])
    assert json.loads((folder / "status.json").read_text())["state"] == "stopped"
    assert len(list((folder / "checkpoints").iterdir())) == 1


@pytest.mark.slow
def test_stop_while_workers_start_exits_with_75(
    corpus: Path, repository: Path, tmp_path: Path
) -> None:
    flags = [*TINY, "--num-train-steps", 20000, "--num-workers", 1]
    command = ["pretrain.py", "--corpus", corpus, "--output-dir", tmp_path / "run", *flags]
    process = start(repository, *command)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("held out"):  # the workers are started next
            break
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors


def test_run_whose_worker_is_killed_during_a_step_ends_with_one_line(
    corpus: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_arguments: object, **_options: object) -> None:  # torch raises at any line
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    monkeypatch.setattr("bert_scratch.pretraining.run.train", train)
    code, _, errors = run("pretrain", "--corpus", corpus, "--output-dir", tmp_path / "run", *TINY)
    assert code == 1
    assert one_line(errors[:-1]).startswith("error: a process of --num-workers was killed")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["code"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "CUDA out of memory",
        ),
        (RuntimeError("CUDA error: out of memory\nSearch for it"), "CUDA error: out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
def test_a_pass_that_does_not_fit_in_memory_ends_with_a_line_that_says_what_to_lower(
    error: Exception, reason: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr("bert_scratch.inference.embed_files.run_embed", step)
    code, _, errors = run("embed", "--model", "m", "--input", "i.txt", "--output", "o.npy")
    assert code == 1
    assert errors == f"error: {reason}; lower --batch-size or --max-seq-length\n"


def test_stopped_preparation_exits_with_75(repository: Path, tmp_path: Path) -> None:
    text = tmp_path / "long.txt"  # takes seconds, so the signal comes in the middle
    text.write_text("".join(f"word{n} and word{n + 1} are here.\n" for n in range(200_000)))
    place = ["--corpus", text, "--output-dir", tmp_path / "p"]
    process = start(repository, "-m", "bert_scratch", "prepare", *place)
    assert process.stdout is not None
    assert any(line.startswith("vocabulary") for line in process.stdout)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "run the same command again" in one_line(errors[:-1])


def test_signal_within_evaluated_text_is_caught_like_any_other(tmp_path: Path) -> None:
    # A KeyboardInterrupt that leaves exec() has Python die of SIGINT at its end, caught or not.
    (tmp_path / "stopped.py").write_text(
        """
import os, signal, sys
from bert_scratch.cli import _stopped_by_signals
try:
    with _stopped_by_signals():
        exec("os.kill(os.getpid(), signal.SIGTERM)")
except KeyboardInterrupt:
    sys.exit(75)
"""
    )
    ended = subprocess.run([sys.executable, "-m", "stopped"], cwd=tmp_path)
    assert ended.returncode == 75


def test_versions_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(
        r"bert-scratch [\d.]+, python [\d.]+, torch \S+, numpy \S+, tokenizers \S+, "
        r"safetensors \S+\n",
        capsys.readouterr().out,
    )

"""Pretrain as Hugging Face users do, for a given time: its tokenizer, its model, its Trainer.

    uv run benchmarks/huggingface_pipeline.py --corpus wiki.txt.gz --seconds 900 --like RUN ...

tokenizers' BertWordPieceTokenizer learns the vocabulary, the text is prepared as by the example
run_mlm.py (each line tokenised, all joined and cut into rows of one length), and Trainer trains
BertForMaskedLM. Shape, vocabulary size, row length, batch and threads are those of a run of ours
(--like). The rest follows the libraries' defaults, except the learning rate: its default of 5e-5
hardly moves a small model. The clock counts only training; if other work shares the machine,
--clock cpu counts the seconds that the processor spent on this process. Trainer's linear schedule
runs over the share of time that has passed, so that it ends when the time does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
import transformers
from measure import write_json
from tokenizers import BertWordPieceTokenizer

from bert_scratch.data.unpack import open_bytes
from bert_scratch.model.huggingface import config_from_hf, config_to_hf

LEARNING_RATE = 1e-3
ALPHABET = 1000
"""Characters that the tokenizer's trainer keeps by default; Chinese has more."""
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
EVERYTHING = 10**9
"""Enough steps for any time; the clock stops the run."""


def main() -> None:
    options = parse_arguments()
    run, out = Path(options.like), Path(options.output_dir)
    settings = json.loads((run / "pretrain_config.json").read_text())
    transformers.set_seed(options.seed)
    torch.set_num_threads(settings["num_threads"])
    ours = config_from_hf(json.loads((run / "model" / "config.json").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "corpus.txt"
        with open_bytes(Path(options.corpus)) as packed:
            text.write_bytes(packed.read())
        tokenizer = learn_tokenizer(text, ours.vocab_size, options.limit_alphabet)
        rows = rows_of(text, tokenizer, settings["max_seq_length"])
    shape = transformers.BertConfig(
        **config_to_hf(ours, "BertForMaskedLM")
        | {"vocab_size": len(tokenizer), "initializer_range": 0.02}
        | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    )
    model = transformers.BertForMaskedLM(shape)
    result = train(model, tokenizer, rows, options, settings["train_batch_size"])
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_json(str(out / "training.json"), result)
    print(json.dumps(result))


def learn_tokenizer(text: Path, vocab_size: int, limit_alphabet: int) -> Any:
    """Learn a vocabulary from a file and return it as transformers' tokenizer."""
    learned = BertWordPieceTokenizer()
    learned.train(
        str(text), vocab_size=vocab_size, limit_alphabet=limit_alphabet, show_progress=False
    )
    return transformers.BertTokenizerFast(vocab=learned.get_vocab())


def rows_of(text: Path, tokenizer: Any, max_seq_length: int) -> list[dict[str, list[int]]]:
    """Tokenise each line, join all and cut them into rows; a shorter last row is left out.

    Source:
        transformers examples/pytorch/language-modeling/run_mlm.py, `group_texts`.
    """
    lines = [line for line in text.read_text("utf-8").splitlines() if line and not line.isspace()]
    joined = list(chain.from_iterable(tokenizer(lines, verbose=False)["input_ids"]))
    ends = range(max_seq_length, len(joined) + 1, max_seq_length)
    return [{"input_ids": joined[end - max_seq_length : end]} for end in ends]


def train(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, list[int]]],
    options: argparse.Namespace,
    batch_size: int,
) -> dict[str, Any]:
    """Train for the time given; return how far it came."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                max_steps=EVERYTHING,
                per_device_train_batch_size=batch_size,
                learning_rate=options.learning_rate,
                use_cpu=True,
                seed=options.seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=options.logging_steps,
            ),
            data_collator=transformers.DataCollatorForLanguageModeling(tokenizer),
            train_dataset=rows,
        )
        clock = Clock(options.seconds, CLOCKS[options.clock])
        trainer.add_callback(clock)
        trainer.create_optimizer()
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            trainer.optimizer, lambda _step: max(0.0, 1 - clock.share())
        )
        output = trainer.train()
    return {
        "learning_rate": options.learning_rate,
        "seconds": round(clock.elapsed_s(), 1),
        "steps": output.global_step,
        "passes": output.global_step * batch_size / len(rows),
        "rows": len(rows),
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
    }


class Clock(transformers.TrainerCallback):
    """Stops training when the time is over."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self.seconds, self.now = seconds, now
        self.started: float | None = None

    def elapsed_s(self) -> float:
        """Return the seconds since the first step began."""
        return 0.0 if self.started is None else self.now() - self.started

    def share(self) -> float:
        """Return the share of the time that has passed."""
        return self.elapsed_s() / self.seconds

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.started = self.now()

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        """Ask for the end when the time is over."""
        control.should_training_stop = self.share() >= 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, help="a text file, packed or not")
    parser.add_argument("--like", required=True, help="a finished run of pretrain")
    parser.add_argument("--seconds", type=float, required=True, help="of training")
    parser.add_argument("--clock", default="wall", choices=list(CLOCKS))
    parser.add_argument("--output-dir", required=True)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--limit-alphabet", type=int, default=ALPHABET)
    parser.add_argument("--logging-steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


if __name__ == "__main__":
    main()

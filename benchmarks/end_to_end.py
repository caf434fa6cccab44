"""Train for the same time with our code and Hugging Face's, and compare the held-out loss.

    uv run benchmarks/end_to_end.py --seconds 300 --plot docs/end_to_end.png
    uv run benchmarks/end_to_end.py --corpus my_texts/ --preset mini --seconds 1800 --json out.json

Both sides train in fresh processes on the same prepared corpus with the same tokenizer, shape,
batch, dropout, learning rate, AdamW, clipping, dtype and number of threads. The same code evaluates
both on the same held-out examples with the same masks. Ours is `bert-scratch pretrain`.
Theirs is transformers' BertForPreTraining with its masking collator, fed pairs as its
TextDatasetForNextSentencePrediction made them, in the loop that Trainer runs, written out so that
evaluation can stop the clock, and without what Trainer adds on top (callbacks, logging). On neither
side does the clock count imports, reading the corpus, evaluation or saving: ours fits its
evaluations into the time given, and theirs trains as long as ours then did.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise, repeat
from pathlib import Path
from typing import Any

import torch
import transformers
from measure import machine, print_table, write_json
from torch import nn
from torch.utils.data import DataLoader

from bert_scratch.config import BertConfig
from bert_scratch.data.loader import evaluation_batches
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import load_tokenizer, special_ids, unselectable_ids
from bert_scratch.model.compute_settings import default_num_threads
from bert_scratch.model.devices import DTYPES
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.model.huggingface import config_to_hf, from_hf
from bert_scratch.pretraining.choices import WARMUP_SHARE
from bert_scratch.pretraining.evaluate import INTERVAL_EXAMPLES
from bert_scratch.training.objective import PRETRAINING
from bert_scratch.training.optimizer import parameter_groups
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import evaluation_sums

EVALUATIONS = 10
RANDOM_PAIRS = 0.5
Curve = list[tuple[float, float]]
"""(seconds of training, held-out loss of masked tokens in nats) at each evaluation."""


def main() -> None:
    options = parse_arguments()
    if options.theirs is not None:
        train_theirs(Path(options.theirs))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "ours"
        subprocess.run(ours_command(options, run), check=True)
        command = [sys.executable, *sys.argv, "--theirs", str(run)]
        subprocess.run(command, check=True)
        arms = {"ours": ours_result(run), "Hugging Face": json.loads(result_file(run).read_text())}
        settings = json.loads((run / "pretrain_config.json").read_text())
    report(options, arms, settings)


def ours_command(options: argparse.Namespace, run: Path) -> list[str]:
    flags = {
        "--preset": options.preset,
        "--vocab-size": options.vocab_size,
        "--max-seq-length": options.max_seq_length,
        "--train-batch-size": options.train_batch_size,
        "--max-train-seconds": options.seconds,
        "--dtype": options.dtype,
        "--device": options.device,
        "--num-threads": options.num_threads,
        "--output-dir": run,
    }
    if options.masked_lm_prob is not None:
        flags["--masked-lm-prob"] = options.masked_lm_prob
    given = [str(word) for pair in flags.items() for word in pair]
    corpus = [] if options.corpus is None else ["--corpus", *options.corpus]
    return [sys.executable, "-m", "bert_scratch", "pretrain", *given, *corpus]


def ours_result(run: Path) -> dict[str, Any]:
    """Read our curve and rates from the log that every run writes."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    tokens = [b["tokens"] - a["tokens"] for a, b in pairwise([{"tokens": 0}, *train])]
    seconds = [n / line["tokens_per_s"] for n, line in zip(tokens, train, strict=True)]
    waits = sum(line["data_wait_fraction"] * s for line, s in zip(train, seconds, strict=True))
    curve, trained_s, position = [], 0.0, 0
    for line in lines:
        if line["split"] == "train":
            trained_s += seconds[position]
            position += 1
        elif "unigram_loss" not in line:
            curve.append((trained_s, line["mlm_loss"]))
        else:
            final = line["mlm_loss"]
    return {
        "curve": [*curve, (trained_s, final)],
        "tokens": sum(tokens),
        "tokens_per_s": sum(tokens) / trained_s,
        "data_wait_fraction": waits / trained_s,
    }


def result_file(run: Path) -> Path:
    return run.with_name("theirs.json")


def train_theirs(run: Path) -> None:
    """Train transformers' model with our run's resolved settings, for as long as our run."""
    settings = json.loads((run / "pretrain_config.json").read_text())
    store = TokenStore(run / "corpus")
    torch.manual_seed(0)
    torch.set_num_threads(settings["num_threads"])
    runtime = Runtime(
        device=torch.device(settings["device"]),
        dtype=DTYPES[settings["dtype"]],
        num_threads=settings["num_threads"],
    )
    config = BertForPreTraining.from_pretrained(run / "model").config
    shape = transformers.BertConfig(**config_to_hf(config, "BertForPreTraining"))
    model = transformers.BertForPreTraining(shape).to(runtime.device)
    batches = batches_of_theirs(store, run / "tokenizer", settings)
    seconds = ours_result(run)["curve"][-1][0]  # without evaluations, as on their side
    result = train_for(seconds, model, batches, settings, runtime, store, config)
    result_file(run).write_text(json.dumps(result))


def train_for(
    seconds: float,
    model: nn.Module,
    batches: Iterator[Mapping[str, torch.Tensor]],
    settings: Mapping[str, Any],
    runtime: Runtime,
    store: TokenStore,
    config: BertConfig,
) -> dict[str, Any]:
    """Run the loop; the learning rate rises and falls with the share of time that has passed."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings["weight_decay"]),
        lr=settings["learning_rate"],
        betas=(settings["adam_beta1"], settings["adam_beta2"]),
        eps=settings["adam_epsilon"],
        fused=True,
    )
    scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.dtype == torch.float16)
    curve: Curve = [(0.0, held_out_loss(model, settings, runtime, store, config))]
    trained_s = waited_s = 0.0
    tokens = 0
    model.train()
    inputs = {name: tensor.to(runtime.device) for name, tensor in next(batches).items()}
    with runtime.autocast():
        loss = model(**inputs).loss
    loss.backward()  # warm-up, as our run tries its steps before its clock starts
    optimizer.zero_grad()
    while trained_s < seconds:
        start = time.perf_counter()
        batch = next(batches)
        waited_s += time.perf_counter() - start
        inputs = {name: tensor.to(runtime.device) for name, tensor in batch.items()}
        over = trained_s / seconds
        for group in optimizer.param_groups:
            factor = min(over / WARMUP_SHARE, (1 - over) / (1 - WARMUP_SHARE))
            group["lr"] = settings["learning_rate"] * factor
        with runtime.autocast():
            loss = model(**inputs).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        loss.item()
        tokens += int(batch["attention_mask"].sum())
        trained_s += time.perf_counter() - start
        if trained_s >= seconds * len(curve) / EVALUATIONS:
            last = trained_s >= seconds
            examples = None if last else INTERVAL_EXAMPLES
            value = held_out_loss(model, settings, runtime, store, config, examples)
            curve.append((trained_s, value))
            print(f"Hugging Face {trained_s:7.1f} s  held-out {value:.4f}", flush=True)
    return {
        "curve": curve,
        "tokens": tokens,
        "tokens_per_s": tokens / trained_s,
        "data_wait_fraction": waited_s / trained_s,
    }


def held_out_loss(
    model: nn.Module,
    settings: Mapping[str, Any],
    runtime: Runtime,
    store: TokenStore,
    config: BertConfig,
    max_examples: int | None = INTERVAL_EXAMPLES,
) -> float:
    """Return the loss of their weights, in our model, on our run's evaluation examples."""
    ours = BertForPreTraining(config).to(runtime.device)
    ours.load_state_dict(from_hf(model.state_dict(), config))
    tokenizer = load_tokenizer(store.folder / "tokenizer")
    batches = evaluation_batches(
        store,
        batch_size=64,
        max_seq_length=settings["max_seq_length"],
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
        pair_task=settings["pair_task"],
        max_examples=max_examples,
    )
    sums = evaluation_sums(ours.eval(), batches, objective=PRETRAINING, runtime=runtime)
    return PRETRAINING.means(sums)["mlm_loss"]


def batches_of_theirs(
    store: TokenStore, tokenizer_folder: Path, settings: Mapping[str, Any]
) -> Iterator[Mapping[str, torch.Tensor]]:
    """Yield batches endlessly: pairs made once, shuffled each epoch, masked by the collator."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokenizer_folder)
    examples = list(pairs(documents(store), tokenizer, settings["max_seq_length"]))
    loader = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=settings["train_batch_size"],
        shuffle=True,
        drop_last=True,
        collate_fn=transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=settings["masked_lm_prob"]
        ),
    )
    return chain.from_iterable(repeat(loader))


def documents(store: TokenStore) -> list[list[list[int]]]:
    """Return the sentences of each training document, as ids."""
    found = []
    for shard in store.shards("train"):
        ends = shard.sentences.tolist()
        ids = shard.read(0, ends[-1] if ends else 0).tolist()
        sentences = [ids[start:end] for start, end in pairwise([0, *ends])]
        bounds = shard.documents.tolist()
        found += [sentences[start:end] for start, end in pairwise([0, *bounds])]
    return found


def pairs(
    texts: list[list[list[int]]], tokenizer: Any, max_seq_length: int
) -> Iterator[dict[str, Any]]:
    """Yield [CLS] A [SEP] B [SEP] for each stretch of a document; half of the Bs are random.

    Source:
        transformers 4 `TextDatasetForNextSentencePrediction.create_examples_from_document`.
    """
    draw = random.Random(0)
    room = max_seq_length - 3
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    for text in texts:
        stretch: list[list[int]] = []
        for number, sentence in enumerate(text):
            stretch.append(sentence)
            if sum(map(len, stretch)) < room and number < len(text) - 1:
                continue
            cut = draw.randint(1, len(stretch) - 1) if len(stretch) > 1 else 1
            first = list(chain.from_iterable(stretch[:cut]))
            is_random = len(stretch) == 1 or draw.random() < RANDOM_PAIRS
            other = draw.choice(texts)
            rest = other[draw.randrange(len(other)) :] if is_random else stretch[cut:]
            second = list(chain.from_iterable(rest))
            stretch = []
            while len(first) + len(second) > room:
                (first if len(first) > len(second) else second).pop()
            yield {
                "input_ids": [start, *first, end, *second, end],
                "token_type_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1),
                "next_sentence_label": int(is_random),
            }


def report(
    options: argparse.Namespace, arms: Mapping[str, dict[str, Any]], settings: Mapping[str, Any]
) -> None:
    rows = [
        {
            "arm": name,
            "tokens/s": f"{arm['tokens_per_s']:,.0f}",
            "tokens": f"{arm['tokens']:,}",
            "data wait": f"{arm['data_wait_fraction']:.2%}",
            "held-out loss": f"{arm['curve'][-1][1]:.4f}",
        }
        for name, arm in arms.items()
    ]
    ratio = arms["ours"]["tokens_per_s"] / arms["Hugging Face"]["tokens_per_s"]
    print(
        f"\n{options.preset}, {settings['train_batch_size']} rows of "
        f"{settings['max_seq_length']}, {settings['dtype']}, {settings['num_threads']} threads, "
        f"{options.seconds:g} s of training each; ours sees {ratio:.2f} times the tokens\n"
    )
    print_table(rows)
    results = {"machine": machine(), "options": vars(options), "ratio": ratio, "arms": arms}
    write_json(options.json, results)
    if options.plot is not None:
        plot(arms, options.plot)


def plot(arms: Mapping[str, dict[str, Any]], path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, arm in arms.items():
        seconds, losses = zip(*arm["curve"], strict=True)
        axes.plot(seconds, losses, marker="o", markersize=3, label=name)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("held-out loss of masked tokens (nats)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", nargs="+", help="left out: Python's documentation")
    parser.add_argument(
        "--seconds",
        type=float,
        default=300.0,
        help="of our run, its evaluations included; theirs trains as long as ours then did",
    )
    parser.add_argument("--preset", default="mini", choices=list(BertConfig.PRESETS))
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--max-seq-length", type=int, default=128)
    parser.add_argument("--train-batch-size", type=int, default=32)
    parser.add_argument("--masked-lm-prob", type=float, help="left out: as our run chooses")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num-threads", type=int, default=default_num_threads())
    parser.add_argument("--plot", help="PNG file for the curves")
    parser.add_argument("--json", help="JSON file")
    parser.add_argument("--theirs", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Pins when a packed or a compiled step is taken. Anywhere:
`pytest tests/pretraining/test_choose_step.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from bert_scratch.config import BertConfig, InputError
from bert_scratch.model import attention
from bert_scratch.pretraining import choose_step
from bert_scratch.pretraining.assemble import Parts
from bert_scratch.pretraining.choose_step import fix_length_and_step, judge, shapes_to_compile
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.step_probe import StepProbe, Trial
from bert_scratch.training.compiled import MAX_PADDED_SHAPES
from bert_scratch.training.packing import NUM_SIZES
from bert_scratch.training.runtime import Runtime
from bert_scratch.training.step import NonFinite

PLAIN = StepProbe(
    step_s=0.2, first_s=0.2, sums=[900.0, 0.0, 100.0, 22.0, 15.0, 32.0], grad_norm=5.0
)


@pytest.mark.parametrize(
    ("compiled", "is_taken", "why"),
    [
        (replace(PLAIN, step_s=0.1), True, "2.00x as fast"),
        (replace(PLAIN, step_s=0.3), False, "1.50x the time"),
        (replace(PLAIN, step_s=0.1, sums=[905.0, 4.0, 100.0, 22.1, 19.0, 32.0]), True, "as fast"),
        (replace(PLAIN, step_s=0.1, grad_norm=2.5), False, "gives other results"),
        (replace(PLAIN, sums=[990.0, *PLAIN.sums[1:]]), False, "gives other results"),
        (replace(PLAIN, grad_norm=float("nan")), False, "gives other results"),
    ],
)
def test_the_faster_step_is_taken_if_it_computes_the_same(
    compiled: StepProbe, is_taken: bool, why: str
) -> None:
    choice, reason = judge(PLAIN, compiled, run_s=400.0, compiling_s=0.0)
    assert choice is is_taken
    assert why in reason


def test_a_faster_step_is_taken_if_the_run_makes_up_for_compiling_it() -> None:
    faster = replace(PLAIN, step_s=0.1)
    assert judge(PLAIN, faster, run_s=400.0, compiling_s=160.0)[0]
    is_taken, reason = judge(PLAIN, faster, run_s=400.0, compiling_s=240.0)
    assert not is_taken
    assert "the 4 min 00 s it takes to start are not won back" in reason


def decide(
    monkeypatch: pytest.MonkeyPatch,
    step_s: dict[tuple[bool, bool], float | Exception],
    *,
    first_s: dict[tuple[bool, bool], float] | None = None,
    device: str = "cuda",
    kernels_are_right: bool = True,
    **settings: Any,
) -> Parts:
    """Decide on a machine where a step, and the first one, take so long, by (packed, compiled)."""
    parts = Parts(
        config=PretrainConfig(
            dtype="bfloat16",
            device=device,
            max_seq_length=128,
            **{"num_train_steps": 1000, "num_warmup_steps": 10, **settings},
        ),
        bert_config=BertConfig.preset("mini", vocab_size=99, attention_probs_dropout_prob=0.0),
        runtime=Runtime(device=torch.device(device), dtype=torch.bfloat16, num_threads=1),
        reasons=[],
        **dict.fromkeys(
            ("facts", "store", "tokenizer", "peak_flops_per_s", "ranks", "added_tokens"),
            mock.sentinel.unused,
        ),
        loader=mock.Mock(num_examples=100),
        word_vectors=None,
    )

    def probe(parts: Parts) -> StepProbe:
        way = bool(parts.config.packed), bool(parts.config.compile)
        found = step_s[way]
        if isinstance(found, Exception):
            raise found
        return replace(PLAIN, step_s=found, first_s=(first_s or {}).get(way, 0.2))

    def measure(parts: Parts, *_: object, **__: object) -> tuple[Parts, Trial]:
        return parts, Trial(step=probe(parts), checkpoint=mock.Mock(), peak_memory_bytes=1)

    monkeypatch.setattr(choose_step, "_probe", probe)
    monkeypatch.setattr(choose_step, "kernels_agree", lambda *_, **__: kernels_are_right)
    monkeypatch.setattr(attention, "_is_ampere_or_newer", lambda _: True)
    monkeypatch.setattr(choose_step, "measure", measure)
    return fix_length_and_step(parts, mock.Mock(), may_halve=True)[0]


@pytest.mark.parametrize(
    ("step_s", "packed", "compiled"),
    [
        ([1.0, 1.1, 0.5, 0.4], True, True),  # packing is tried on top of what was taken
        ([1.0, 0.9, 0.5, 0.6], False, True),
        ([1.0, 0.9, 1.1, 0.1], True, False),
        ([1.0, 1.1, 1.2, 0.4], False, False),
    ],
)
def test_each_way_is_tried_on_top_of_those_taken(
    step_s: list[float], packed: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, only_packed, only_compiled, both = step_s
    parts = decide(
        monkeypatch,
        {
            (False, False): plain,
            (True, False): only_packed,
            (False, True): only_compiled,
            (True, True): both,
        },
    )
    assert (parts.config.packed, parts.config.compile) == (packed, compiled)
    flags = [reason.partition(":")[0] for reason in parts.reasons]
    assert flags == [f"--{'' if compiled else 'no-'}compile", f"--{'' if packed else 'no-'}packed"]


@pytest.mark.parametrize(
    ("first_s", "packed", "compiled"),
    [
        ([100.0, 1.0, 1.0], True, True),  # a packed step alone compiles nothing
        ([1.0, 70.0, 1.0], True, False),  # 8 shapes cost more than the 500 s saved
        ([1.0, 20.0, 20.0], False, True),  # 8 more shapes cost more than the 100 s saved
    ],
)
def test_a_way_is_charged_for_what_it_compiles(
    first_s: list[float], packed: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_packed, only_compiled, both = first_s
    parts = decide(
        monkeypatch,
        {(False, False): 1.0, (True, False): 0.4, (False, True): 0.5, (True, True): 0.4},
        first_s={(True, False): only_packed, (False, True): only_compiled, (True, True): both},
    )
    assert (parts.config.packed, parts.config.compile) == (packed, compiled)


def test_only_compiled_steps_have_shapes_to_compile() -> None:
    shapes = {
        (packed, compiled): shapes_to_compile(PretrainConfig(packed=packed, compile=compiled))
        for packed in (False, True)
        for compiled in (False, True)
    }
    assert shapes == {
        (False, False): 0,
        (True, False): 0,
        (False, True): MAX_PADDED_SHAPES,
        (True, True): NUM_SIZES,
    }


def test_a_way_that_does_not_run_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: dict[tuple[bool, bool], float | Exception] = {
        (False, False): 1.0,
        (True, False): NonFinite("the loss is nan\nexamples 1:2"),
        (False, True): torch.OutOfMemoryError(),
    }
    parts = decide(monkeypatch, broken)
    assert (parts.config.packed, parts.config.compile) == (False, False)
    assert parts.reasons == [
        "--no-compile: with --compile a step does not fit in GPU memory",
        "--no-packed: with --packed a step does not run here (NonFinite: the loss is nan)",
    ]


def test_a_gpu_that_takes_no_more_orders_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    broken: dict[tuple[bool, bool], float | Exception] = {
        (False, False): 1.0,
        (False, True): torch.AcceleratorError("an illegal memory access", 700),
    }
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        decide(monkeypatch, broken)


def test_kernels_that_do_not_agree_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    much_faster: dict[tuple[bool, bool], float | Exception] = {
        (False, False): 1.0,
        (False, True): 1.1,
        (True, False): 0.1,
    }
    parts = decide(monkeypatch, much_faster, kernels_are_right=False)
    assert parts.config.packed is False
    assert "give other results than the formula" in parts.reasons[1]


def test_what_was_asked_for_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = decide(monkeypatch, {(True, False): 1.0}, packed=True, compile=False)
    assert (parts.config.packed, parts.config.compile, parts.reasons) == (True, False, [])


def test_deterministic_runs_try_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = decide(monkeypatch, {(False, False): 1.0}, deterministic=True)
    assert (parts.config.packed, parts.config.compile) == (False, False)
    assert all("--deterministic promises the same bits" in reason for reason in parts.reasons)


def test_a_cpu_tries_nothing_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = decide(monkeypatch, {(False, False): 1.0}, device="cpu")
    assert (parts.config.packed, parts.config.compile, parts.reasons) == (False, False, [])


def test_a_warm_up_is_compared_with_the_steps_of_the_way_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 plain steps fit in the time, 200 compiled ones."""
    step_s: dict[tuple[bool, bool], float | Exception]
    step_s = {(False, False): 1.0, (False, True): 0.5, (True, True): 2.0}
    timed = {"num_train_steps": None, "max_train_seconds": 100.0}
    parts = decide(monkeypatch, step_s, num_warmup_steps=150, **timed)
    assert parts.config.compile and parts.config.num_warmup_steps == 150
    with pytest.raises(InputError, match=r"250 is more than the 200 steps .* 500\.0 ms per step"):
        decide(monkeypatch, step_s, num_warmup_steps=250, **timed)

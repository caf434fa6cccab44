"""Pins when a compiled step is taken. Anywhere:
`pytest tests/pretraining/test_choose_compile.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bert_scratch.pretraining.choose_compile import judge
from bert_scratch.pretraining.step_probe import StepProbe

PLAIN = StepProbe(step_s=0.2, sums=[900.0, 0.0, 100.0, 22.0, 15.0, 32.0], grad_norm=5.0)


@pytest.mark.parametrize(
    ("compiled", "is_taken", "why"),
    [
        (replace(PLAIN, step_s=0.1), True, "2.00x as fast"),
        (replace(PLAIN, step_s=0.3), False, "1.50x the time"),
        (replace(PLAIN, step_s=0.1, sums=[905.0, 4.0, 100.0, 22.1, 19.0, 32.0]), True, "as fast"),
        (replace(PLAIN, step_s=0.1, grad_norm=2.5), False, "does not compute the same"),
        (replace(PLAIN, sums=[990.0, *PLAIN.sums[1:]]), False, "does not compute the same"),
        (replace(PLAIN, grad_norm=float("nan")), False, "does not compute the same"),
    ],
)
def test_the_faster_step_is_taken_if_it_computes_the_same(
    compiled: StepProbe, is_taken: bool, why: str
) -> None:
    choice, reason = judge(PLAIN, compiled)
    assert choice is is_taken
    assert why in reason

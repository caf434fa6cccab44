"""Pins int8 products: the rounding is all they lose, and commands take them. CPU:
`pytest tests/inference/test_int8.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch import nn

from bert_scratch import cli, embed
from bert_scratch.config import InputError
from bert_scratch.inference.inputs import ModelOptions
from bert_scratch.inference.int8 import LARGEST, Int8Linear
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.heads import BertForPreTraining

LINES = ["the cat sees a dog.", "", "an unbelievable garden", "北京 x y z"]


@given(
    rows=st.integers(1, 9),
    inputs=st.integers(1, 70),
    outputs=st.integers(1, 40),
    exponent=st.floats(-6, 6),
    seed=st.integers(0, 2**31),
)
def test_int8_product_loses_no_more_than_the_rounding(
    rows: int, inputs: int, outputs: int, exponent: float, seed: int
) -> None:
    torch.manual_seed(seed)
    linear = nn.Linear(inputs, outputs)
    states = torch.randn(rows, inputs) * 10.0**exponent
    with torch.no_grad():
        exact = linear(states).double()
        found = Int8Linear(linear)(states).double()
    weight = linear.weight.detach().double()
    x_step = states.double().abs().amax(1)[:, None] / LARGEST
    w_step = weight.abs().amax(1) / LARGEST
    # |x w - x' w'| <= |x| dw / 2 + |w| dx / 2 + dx dw / 4, summed over the inputs
    lost = states.double().abs().sum(1)[:, None] * w_step / 2
    lost += x_step * (weight.abs().sum(1) / 2 + inputs * w_step / 4)
    assert bool(((found - exact).abs() <= 1.001 * lost + 1e-5 * (1 + exact.abs())).all())


def test_int8_product_of_zeros_is_the_bias() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 5)
    with torch.no_grad():
        found = Int8Linear(linear)(torch.zeros(2, 3, 6))
    assert torch.equal(found, linear.bias.detach().expand(2, 3, 5))


def test_int8_product_of_no_rows_is_empty() -> None:
    with torch.no_grad():
        assert Int8Linear(nn.Linear(6, 5))(torch.zeros(0, 6)).shape == (0, 5)


def test_int8_vectors_are_near_and_written_as_float32(
    folder: Path, tmp_path: Path, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    place = ["--input", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "a.npy")]
    assert cli.main(["embed", "--model", str(folder), *place, "--dtype", "int8"]) == 0
    found, exact = np.load(tmp_path / "a.npy"), embed(model, tokenizer, LINES)
    assert found.dtype == np.float32
    assert not np.array_equal(found, exact)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((found * exact).sum(1) / lengths).min() > 0.999


def test_our_checkpoint_guesses_the_same_word_in_int8(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "Return the [MASK] of the list."
    flags = ["--model", str(repository / "data" / "checkpoint"), "--text", text, "--top-k", "1"]
    said = []
    for dtype in ("float32", "int8"):
        assert cli.main(["fill-mask", *flags, "--dtype", dtype, "--json"]) == 0
        said.append(capsys.readouterr().out)
    words = [line.split('"token": ')[1].split(",")[0] for line in said]
    assert words[0] == words[1]


@pytest.mark.gpu
def test_int8_is_refused_on_a_gpu(folder: Path) -> None:
    with pytest.raises(InputError, match="--dtype int8 is for a CPU"):
        ModelOptions(model=str(folder), device="cuda", dtype="int8").load(BertModel)

"""Pins what `check` finds: strangers with one mistake each, written here on their own, are named.
Run alone: `pytest tests/checking/test_check.py`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bert_scratch.checking.check import check_component
from bert_scratch.checking.diagnosis import TOLERANCE, difference, find_mistakes
from bert_scratch.checking.parts import PARTS, weights_of, whole_model
from bert_scratch.checking.strangers import give_weights, make, outputs_of
from bert_scratch.cli import main
from bert_scratch.config import InputError


class Norm(nn.Module):
    mistake = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(config.hidden_size))
        self.beta = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        eps = 1e-5 if self.mistake == "eps_1e-5" else 1e-12
        spread = x.var(-1, keepdim=True, unbiased=self.mistake == "unbiased_variance")
        return self.gamma * (x - x.mean(-1, keepdim=True)) / torch.sqrt(spread + eps) + self.beta


class Attention(nn.Module):
    mistake = ""

    def __init__(self, hidden_size: int, num_attention_heads: int) -> None:
        super().__init__()
        self.heads = num_attention_heads
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def project(self, layer: nn.Linear, x: Tensor) -> Tensor:
        return x @ layer.weight + layer.bias if self.mistake == "transposed_weight" else layer(x)

    def split(self, x: Tensor) -> Tensor:
        rows, length, size = x.shape
        if self.mistake == "heads_viewed":
            return x.view(rows, self.heads, length, size // self.heads)
        return x.view(rows, length, self.heads, size // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (self.split(self.project(layer, x)) for layer in layers)
        if self.mistake == "swapped_query_key":
            q, k = k, q
        scores = torch.einsum("bhik,bhjk->bhij", q, k)
        if self.mistake != "missing_scale":
            scores = scores / math.sqrt(q.shape[-1])
        if mask is not None:
            mask = mask.transpose(2, 3) if self.mistake == "mask_on_queries" else mask
            scores = scores - mask if self.mistake == "mask_sign" else scores + mask
        weights = torch.softmax(scores, 2 if self.mistake == "softmax_over_queries" else 3)
        mixed = torch.einsum("bhij,bhjk->bhik", weights, v).transpose(1, 2).flatten(2)
        return self.project(self.out_proj, mixed)


class Layer(nn.Module):
    mistake = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Attention(config.hidden_size, config.num_attention_heads)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.norm_1, self.norm_2 = Norm(config), Norm(config)

    def wide(self, x: Tensor) -> Tensor:
        tanh = "tanh" if self.mistake == "gelu_tanh" else "none"
        return self.down(nn.functional.gelu(self.up(x), approximate=tanh))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.mistake == "pre_norm":
            x = x + self.attention(self.norm_1(x), mask)
            return x + self.wide(self.norm_2(x))
        kept = 0 if self.mistake == "missing_attention_residual" else x
        x = self.norm_1(kept + self.attention(x, mask))
        return self.norm_2(x + self.wide(x))


class Embed(nn.Module):
    mistake = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token = nn.Embedding(config.vocab_size, config.hidden_size)
        self.segment = nn.Embedding(2, config.hidden_size)
        self.norm = Norm(config)

    def forward(self, ids: Tensor, types: Tensor | None = None) -> Tensor:
        start = 1 if self.mistake == "positions_off_by_one" else 0
        places = torch.arange(start, start + ids.shape[1])
        total = self.token(ids) + self.position(places)
        if self.mistake != "token_types_ignored":
            total = total + self.segment(torch.zeros_like(ids) if types is None else types)
        return self.norm(total)


class Whole(nn.Module):
    mistake = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embed = Embed(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = Norm(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        if self.mistake != "untied_decoder":
            self.decoder.weight = self.embed.token.weight

    def forward(
        self, ids: Tensor, types: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        x = self.embed(ids, types)
        bias = None if mask is None else (1.0 - mask[:, None, None]) * -1e9
        layers = list(self.layers)
        if self.mistake == "layers_shifted":
            layers = layers[1:] + layers[:1]
        for layer in layers:
            x = layer(x, bias)
        return self.decoder(self.norm(nn.functional.gelu(self.dense(x))))


PLANTED = [
    (Norm, "LayerNorm", "eps_1e-5"),
    (Norm, "LayerNorm", "unbiased_variance"),
    (Attention, "MultiHeadAttention", "transposed_weight"),
    (Attention, "MultiHeadAttention", "swapped_query_key"),
    (Attention, "MultiHeadAttention", "missing_scale"),
    (Attention, "MultiHeadAttention", "mask_on_queries"),
    (Attention, "MultiHeadAttention", "mask_sign"),
    (Attention, "MultiHeadAttention", "softmax_over_queries"),
    (Attention, "MultiHeadAttention", "heads_viewed"),
    (Layer, "EncoderLayer", "gelu_tanh"),
    (Layer, "EncoderLayer", "pre_norm"),
    (Layer, "EncoderLayer", "missing_attention_residual"),
    (Embed, "Embeddings", "token_types_ignored"),
    (Embed, "Embeddings", "positions_off_by_one"),
    (Whole, "BertForMaskedLM", "layers_shifted"),
    (Whole, "BertForMaskedLM", "untied_decoder"),
]
STRANGERS = sorted({(thing, part) for thing, part, _ in PLANTED}, key=lambda pair: pair[1])


def outputs(thing: type[nn.Module], name: str) -> tuple[dict[str, Tensor], list[Any]]:
    """Return our weights, and what a stranger makes of them."""
    part = PARTS[name]
    weights = weights_of(whole_model(part).get_submodule(part.place), part)
    stranger = make(thing, part).eval()
    give_weights(stranger, weights, part)
    with torch.no_grad():
        return weights, [outputs_of(stranger(*case)) for case in part.cases]


@pytest.mark.parametrize(("thing", "name", "mistake"), PLANTED)
def test_a_planted_mistake_is_named(
    thing: type[nn.Module], name: str, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thing, "mistake", mistake)
    assert find_mistakes(PARTS[name], *outputs(thing, name)) == (mistake,)


@pytest.mark.parametrize(("thing", "name"), STRANGERS)
def test_a_right_stranger_gives_our_numbers(thing: type[nn.Module], name: str) -> None:
    part = PARTS[name]
    weights, found = outputs(thing, name)
    for case, theirs in zip(part.cases, found, strict=True):
        ours = outputs_of(part.formula(weights, case, ()))
        assert difference(ours, theirs, part) <= TOLERANCE


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.component])
def test_formulas_without_a_mistake_are_our_components(name: str) -> None:
    part = PARTS[name]
    component = whole_model(part).get_submodule(part.place)
    weights = weights_of(component, part)
    for case in part.cases:
        ours = outputs_of(part.formula(weights, case, ()))
        with torch.no_grad():
            assert difference(outputs_of(component(*case)), ours, part) <= TOLERANCE


def test_two_mistakes_at_once_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    part = PARTS["gelu"]
    assert part.mistakes
    monkeypatch.setattr(Attention, "mistake", "missing_scale")

    class Both(Attention):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(x, None)

    made = find_mistakes(PARTS["MultiHeadAttention"], *outputs(Both, "MultiHeadAttention"))
    assert set(made) == {"missing_scale", "mask_ignored"}


def test_a_stranger_is_trained_in_place_and_fails_when_cut_off() -> None:
    class Cut(Attention):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(x.detach(), mask).detach()

    right = check_component(Attention, PARTS["MultiHeadAttention"])
    assert right.passed and right.learned is not None
    assert right.learned.ours_last < right.learned.ours_first - 0.5
    cut = check_component(Cut, PARTS["MultiHeadAttention"])
    assert cut.failed == "gives our gradients" and "no gradient" in cut.reason


def test_other_parameters_are_refused_with_those_expected() -> None:
    class Bare(nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(InputError, match=r"expected: weight \[24\], bias \[24\]"):
        check_component(Bare, PARTS["LayerNorm"])


def test_a_file_that_is_not_python_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "norm.txt"
    file.write_text("")
    assert main(["check", "--component", f"{file}:Norm", "--as", "LayerNorm"]) == 2
    assert "norm.txt is not a .py file" in capsys.readouterr().err


def check(file: Path, code: str, name: str = "Norm", part: str = "LayerNorm") -> int:
    head = "import torch\nfrom torch import nn\n"
    file.write_text(head + code)
    return main(["check", "--component", f"{file}:{name}", "--as", part])


@pytest.mark.parametrize(
    ("code", "line", "told"),
    [
        ("def norm(:\n    pass\n", 3, "SyntaxError: "),
        ("\nimport no_such_package\n", 4, "ModuleNotFoundError: No module named"),
        ("def made():\n    return 1 / 0\n\nsize = made()\n", 4, "ZeroDivisionError: "),
        (
            "class Norm(nn.Module):\n    def __init__(self, config):\n        self.a = config.b\n",
            5,
            "AttributeError: 'BertConfig' object has no attribute 'b'",
        ),
    ],
)
def test_code_that_cannot_be_imported_or_made_is_one_line_with_its_place(
    code: str, line: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "norm.py"
    assert check(file, code) == 2
    error = capsys.readouterr().err
    assert f"{file}:{line}: {told}" in error and error.count("\n") == 1


_NORM = """
class Norm(nn.Module):
    calls = 0

    def __init__(self, hidden_size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x):
        self.calls += 1
        if FAILS:
            raise RuntimeError("out of luck")
        return nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-12)
"""


@pytest.mark.parametrize(
    ("fails", "failed"),
    [
        ("self.calls > len(PARTS['LayerNorm'].cases)", "gives the same twice"),
        ("len(x) == 1", "keeps the rows of a batch apart"),
        ("torch.is_grad_enabled()", "gives our gradients"),
        ("self.training", "can be trained in its place"),
    ],
)
def test_an_error_after_the_first_call_is_a_failed_property(
    fails: str, failed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from bert_scratch.checking.parts import PARTS\n" + _NORM.replace("FAILS", fails)
    assert check(tmp_path / "norm.py", code) == 1
    told = f"  FAILED  {failed}: {tmp_path}/norm.py:16: RuntimeError: out of luck\n"
    assert told in capsys.readouterr().out


EXERCISES = sorted((Path(__file__).parents[2] / "examples" / "exercises").glob("*.py"))
COMMAND = "bert-scratch check "


def command(path: Path) -> list[str]:
    """Return the arguments that a file says it is checked with."""
    words = path.read_text(encoding="utf-8").split(COMMAND)[1].split('"""')[0].split()
    return ["check", *(word for word in words if word != "\\")]


def test_there_are_ten_exercises() -> None:
    assert len(EXERCISES) == 10


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
def test_a_solution_passes_and_a_blank_fails_with_a_helpful_line(
    path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(repository)
    assert main(command(path.parent / "solutions" / path.name)) == 0, capsys.readouterr().out
    assert capsys.readouterr().out.endswith("everything holds\n")
    assert main(command(path)) == 1
    blank = capsys.readouterr().out
    assert "FAILED  " in blank and "cause   " in blank

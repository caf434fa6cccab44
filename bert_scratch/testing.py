"""Compare a component, or a whole model folder, with Hugging Face's and measure the difference.

For our own tests and for anybody who writes BERT components: `assert_matches_huggingface` takes
any module, not only ours. transformers is imported only when needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bert_scratch.config import InputError, Settings, check_range, read_json_object
from bert_scratch.model import heads
from bert_scratch.model.encoder import BertModel
from bert_scratch.model.folder import read_config
from bert_scratch.model.huggingface import hf_module
from bert_scratch.model.layers import FeedForward, MultiHeadAttention
from bert_scratch.model.losses import IGNORED_LABEL
from bert_scratch.model.pretrained_model import PretrainedModel
from bert_scratch.model.weight_files import CONFIG, find_folder


def assert_matches_huggingface(
    component: nn.Module,
    hf_component: nn.Module,
    inputs: Tensor | Mapping[str, Any],
    atol: float = 1e-5,
    *,
    kind: type[nn.Module] | None = None,
) -> float:
    """Assert that a component and Hugging Face's counterpart compute the same.

    Both run in evaluation mode without gradients; no weights are copied (`load_hf` does that).
    Our `MultiHeadAttention` and `FeedForward` stop before dropout, residual and LayerNorm, and are
    compared with a `BertAttention` (or `BertLayer`) and a `BertLayer` up to that point.

    Args:
        component: any module: ours, or your own with the same arguments.
        hf_component: the transformers module, with the same weights.
        inputs: the first argument (`hidden_states` [B, S, D], or `input_ids` [B, S]), or all of
            them by name: `hidden_states` and `attention_bias` (additive, broadcast to
            [B, H, S, S]) for parts, the arguments of `BertModel` and labels for models.
        atol: the largest absolute difference allowed.
        kind: which of our components your module stands for, where that matters
            (`MultiHeadAttention`, `FeedForward`); None: its own class.

    Returns:
        The largest absolute difference.

    Raises:
        AssertionError: naming the output, the difference and where it is.
    """
    with _evaluating(component), _evaluating(hf_component), torch.no_grad():
        ours = component(inputs) if isinstance(inputs, Tensor) else component(**inputs)
        theirs = _call_huggingface(kind or type(component), hf_component, inputs)
    labels = inputs.get("labels") if isinstance(inputs, Mapping) else None
    largest = 0.0
    pairs = list(_pairs(ours, theirs, labels))
    assert pairs, f"{type(component).__name__} returned nothing that Hugging Face returns too"
    for name, mine, reference in pairs:
        assert mine.shape == reference.shape, (
            f"{name}: shape {list(mine.shape)}, Hugging Face has {list(reference.shape)}"
        )
        difference = (mine - reference).abs()
        worst = difference.max().item() if difference.numel() else 0.0
        if not worst <= atol:  # NaN counts as a difference too
            place = torch.unravel_index(difference.nan_to_num(torch.inf).argmax(), mine.shape)
            index = tuple(int(i) for i in place)
            raise AssertionError(
                f"{type(component).__name__} {name}: max abs difference {worst:.3g} > {atol:.3g} "
                f"at {list(index)}: {mine[index]:.9g}, Hugging Face has {reference[index]:.9g}"
            )
        largest = max(largest, worst)
    return largest


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode inside the block, then restore training mode where it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _call_huggingface(kind: type[nn.Module], hf: Any, inputs: Tensor | Mapping[str, Any]) -> Any:
    """Run Hugging Face's counterpart as far as our component goes."""
    if isinstance(inputs, Tensor):
        inputs = {"": inputs}
    first, *names = inputs
    rest = {name: inputs[name] for name in names}
    if issubclass(kind, MultiHeadAttention):
        attention = getattr(hf, "attention", hf)
        mixed, weights = attention.self(inputs[first], rest.get("attention_bias"))
        output = attention.output.dense(mixed)
        return (output, weights) if rest.get("output_attentions") else output
    if issubclass(kind, FeedForward):
        return hf.output.dense(hf.intermediate(inputs[first]))
    if "attention_bias" in rest:
        rest["attention_mask"] = rest.pop("attention_bias")
    return hf(inputs[first], **rest)


def _pairs(ours: Any, theirs: Any, labels: Tensor | None) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the outputs that both returned: name, ours, Hugging Face's."""
    if dataclasses.is_dataclass(ours):
        for field in dataclasses.fields(ours):
            mine, reference = getattr(ours, field.name), getattr(theirs, field.name, None)
            if mine is None or reference is None:
                continue
            if isinstance(mine, tuple):
                for i, (a, b) in enumerate(zip(mine, reference, strict=True)):
                    yield f"{field.name}[{i}]", a, b
            elif labels is not None and mine.ndim + 1 == reference.ndim:
                yield field.name, mine, reference[labels != IGNORED_LABEL]
            else:
                yield field.name, mine, reference
    elif isinstance(ours, tuple):
        for i, (mine, reference) in enumerate(zip(ours, theirs, strict=True)):
            yield f"output[{i}]", mine, reference
    else:
        yield "output", ours, theirs[0] if isinstance(theirs, tuple) else theirs


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage at which both models were compared."""

    name: str
    difference: float
    """Largest absolute difference."""
    magnitude: float
    """Largest absolute value in Hugging Face's output."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How far our model is from Hugging Face's, stage by stage; `print` shows a table."""

    model: str
    architecture: str
    stages: tuple[Stage, ...]

    @property
    def max_difference(self) -> float:
        """The largest difference of all stages."""
        return max(stage.difference for stage in self.stages)

    def __str__(self) -> str:
        width = max(len(stage.name) for stage in self.stages)
        lines = [
            f"{self.model} as {self.architecture}, float32, against transformers",
            f"{'stage':<{width}}  max abs difference  largest value",
            *(
                f"{stage.name:<{width}}  {stage.difference:>18.3g}  {stage.magnitude:>13.6g}"
                for stage in self.stages
            ),
        ]
        return "\n".join(lines)


_LABELS = {
    "BertForPreTraining": {"labels": "words", "next_sentence_label": "pairs"},
    "BertForMaskedLM": {"labels": "words"},
    "BertForNextSentencePrediction": {"labels": "pairs"},
}
_WITHOUT_POOLER = ("BertForTokenClassification", "BertForQuestionAnswering")


def compare_with_huggingface(folder_or_hub_id: str | Path, text: str) -> Comparison:
    """Load a model folder here and in transformers, run both on a text, and compare every stage.

    The text's two halves form a pair, once whole and once shortened, to exercise segments and
    padding. The class is the folder's own; for a fine-tuned model the encoder is compared.

    Args:
        folder_or_hub_id: a model folder with a tokenizer, or a hub id.
        text: some sentences.

    Raises:
        InputError: if the folder cannot be loaded or the text gives nothing to compare.
    """
    try:
        import transformers
    except ImportError as error:
        raise InputError("comparing needs transformers: pip install transformers") from error
    folder = find_folder(folder_or_hub_id)
    read_config(folder)  # refuses what is not a model folder before anything is loaded
    stored = (read_json_object(folder / CONFIG).get("architectures") or ["BertModel"])[0]
    architecture = stored if stored in _LABELS else "BertModel"
    options = {"add_pooling_layer": False} if stored in _WITHOUT_POOLER else {}
    ours_class: type[PretrainedModel] = getattr(heads, architecture, BertModel)
    ours = ours_class.from_pretrained(folder, **options).eval()
    theirs = getattr(transformers, architecture).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **options
    )
    theirs.eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs, words = _example(tokenizer, text, ours.config.max_position_embeddings)
    if int(inputs["input_ids"].max()) >= ours.config.vocab_size:
        raise InputError(
            f"{folder}: the tokenizer gives ids up to {int(inputs['input_ids'].max())}, the model "
            f"has vocab_size={ours.config.vocab_size}; they do not belong together"
        )
    labels = {"words": words, "pairs": torch.tensor([0, 1])}
    given = {name: labels[kind] for name, kind in _LABELS.get(architecture, {}).items()}
    with torch.no_grad():
        stages = _compare_stages(ours, theirs, inputs)
        if given:
            mine, reference = ours(**inputs, **given).loss, theirs(**inputs, **given).loss
            stages.append(_stage("loss", mine, reference))
    return Comparison(model=str(folder_or_hub_id), architecture=architecture, stages=tuple(stages))


def _example(tokenizer: Any, text: str, max_length: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return two rows of model inputs, with every fourth word masked, and its labels [2, S]."""
    middle = len(text) // 2
    second = text[middle:]
    encoded = tokenizer(
        [text[:middle]] * 2,
        [second, second[: len(second) // 2]],
        padding=True,
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    ids = encoded["input_ids"]
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    chosen = ~special & (torch.arange(ids.shape[1]) % 4 == 1)
    if not bool(chosen.any()):
        raise InputError(f"the text has no words to compare on; got {text!r}")
    names = ("token_type_ids", "attention_mask")
    inputs = {"input_ids": ids.masked_fill(chosen, tokenizer.mask_token_id)}
    inputs |= {name: encoded[name] for name in names if name in encoded}
    return inputs, ids.masked_fill(~chosen, IGNORED_LABEL)


def _compare_stages(
    ours: PretrainedModel, theirs: nn.Module, inputs: dict[str, Tensor]
) -> list[Stage]:
    """Run both models once and compare the outputs of chosen modules."""
    places = _places(ours)
    mine = _outputs(ours, places, inputs)
    reference = _outputs(theirs, {key: hf_module(name) for key, name in places.items()}, inputs)
    return [_stage(title, mine[title], reference[title]) for title in places]


def _places(model: PretrainedModel) -> dict[str, str]:
    """Return row title -> name of our module to read."""
    bert = "" if isinstance(model, BertModel) else "bert."
    places = {"embeddings": f"{bert}embeddings.layer_norm"}
    for i in range(model.config.num_hidden_layers):
        places[f"layer {i} attention"] = f"{bert}layers.{i}.attention_layer_norm"
        places[f"layer {i} feed-forward"] = f"{bert}layers.{i}.feed_forward_layer_norm"
    places["pooler, before tanh"] = f"{bert}pooler.dense"
    places["word scores"] = "mlm_head.decoder"
    places["pair scores"] = "nsp_head.classifier"
    present = {name for name, _ in model.named_modules()}
    return {title: name for title, name in places.items() if name in present}


def _outputs(
    model: nn.Module, places: Mapping[str, str], inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Run the model and return the output of each module, under its key in places."""
    outputs: dict[str, Tensor] = {}

    def keep(key: str) -> Any:
        return lambda module, arguments, output: outputs.__setitem__(key, output)

    hooks = [
        model.get_submodule(place).register_forward_hook(keep(key)) for key, place in places.items()
    ]
    try:
        model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _stage(name: str, ours: Tensor, theirs: Tensor) -> Stage:
    difference = (ours - theirs).abs().max().item()
    return Stage(name=name, difference=difference, magnitude=theirs.abs().max().item())


@dataclass(frozen=True, kw_only=True)
class CompareConfig(Settings):
    """Run a model here and in transformers and compare every stage."""

    model: str
    """A model folder with a tokenizer, or a hub id."""
    text: str = "The quick brown fox jumps over the lazy dog. It does so every morning."
    """Some sentences to run both models on."""
    max_difference: float = 1e-4
    """Exit with code 1 when any stage differs by more."""

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            InputError: naming the flag.
        """
        check_range("--max-difference", self.max_difference, at_least=0)


def run_compare(config: CompareConfig) -> int:
    """Print the comparison; return 0 when all stages agree, else 1.

    Raises:
        InputError: if the folder cannot be loaded, or transformers is not installed.
    """
    comparison = compare_with_huggingface(config.model, config.text)
    print(comparison)
    return int(comparison.max_difference > config.max_difference)

"""The settings of a pretraining run: every field is a flag and a key of `--config FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bert_scratch.config import (
    ACTIVATIONS,
    INITIALIZERS,
    PAIR_SAMPLINGS,
    PAIR_TASKS,
    BertConfig,
    InputError,
    Settings,
    check_choice,
    check_range,
    flag_of,
)
from bert_scratch.data.mask_settings import MASK_UNITS, check_replacements
from bert_scratch.model.compute_settings import ComputeSettings
from bert_scratch.pretraining.choices import RECIPES
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.training.schedule import DECAY_SHARE, LEARNING_RATE_SCHEDULES
from bert_scratch.training.writers import WRITERS

OPTIMIZERS = ("adamw", "muon")

TAKEN_ON_RESUME = (
    "num_workers",
    "keep_checkpoints",
    "skip_non_finite",
    "hang_timeout_s",
    "report_to",
    "activation_checkpointing",
    "profile",
)
"""Settings that a resumed run takes from its command."""
INTERVALS = ("logging_steps", "eval_steps", "save_steps")
"""Settings that a resumed run takes from its command if given there."""
MAY_CHANGE_ON_RESUME = frozenset(
    {*TAKEN_ON_RESUME, *INTERVALS, "num_processes", "resume", "extend", "dry_run", "output_dir"}
)
"""Settings that do not change the result, so a resumed run may change them."""
HORIZON = frozenset({"num_train_steps", "max_train_seconds"})
"""Settings that --extend changes."""


@dataclass(frozen=True, kw_only=True)
class ExampleSettings(Settings):
    """How text becomes training examples."""

    max_seq_length: int | None = None
    """Tokens per example, [CLS] and [SEP] included. Left out: 64 or 128, by the budget."""
    short_seq_prob: float = 0.1
    """Share of examples cut short on purpose, so that short inputs are seen too."""
    pair_task: str | None = None
    """nsp (does B follow A), sop (were A and B swapped), none. Left out: nsp where possible."""
    pair_sampling: str = "balanced"
    """balanced (half the pairs random, redrawn each epoch) or google (Google's own algorithm)."""
    masked_lm_prob: float | None = None
    """Share of tokens to predict. Left out: 0.15 from width 768 on, 0.3 below it. Evaluation always masks 15 %."""  # noqa: E501
    mask_unit: str = "token"
    """What is masked together: token, word (all pieces of a word) or span (several words)."""
    mask_token_prob: float = 0.8
    """Share of the tokens to predict that are shown as [MASK]."""
    random_token_prob: float = 0.1
    """Share of the tokens to predict that are shown as a random token; the rest is unchanged."""
    mask_special: bool | None = None
    """Choose special tokens too, and draw random replacements from the whole vocabulary, as Google does."""  # noqa: E501


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """The shape of the model; what is left out is the preset's."""

    preset: str | None = None
    """tiny, mini, small, medium, base or large. Left out: chosen by corpus and budget."""
    init_checkpoint: str | None = None
    """Start from the weights and tokenizer of this model folder or hub id."""
    init_word_vectors: str | None = None
    """Start word embeddings from a text file of word2vec or GloVe vectors; corpus: from which words stand next to which in the corpus, with the decoder's bias by their frequency; none: drawn. Left out: by the width."""  # noqa: E501
    hidden_size: int | None = None
    """Width of the hidden states."""
    num_hidden_layers: int | None = None
    """Encoder layers."""
    num_attention_heads: int | None = None
    """Attention heads; must divide the width."""
    intermediate_size: int | None = None
    """Inner width of the feed-forward block."""
    hidden_act: str | None = None
    """gelu (erf), gelu_new (tanh form), gelu_pytorch_tanh, relu or silu."""
    hidden_dropout_prob: float | None = None
    """Dropout on hidden states. Left out: 0, or 0.1 for many passes of a large model."""
    attention_probs_dropout_prob: float | None = None
    """Dropout on attention probabilities. Left out: 0, or 0.1 for many passes of a large model."""
    max_position_embeddings: int | None = None
    """The longest sequence the model can ever take. Left out: 512, as published."""
    type_vocab_size: int | None = None
    """Token types (segments)."""
    initializer_range: float | None = None
    """Standard deviation of the initial weights. Left out: by the width."""
    layer_norm_eps: float | None = None
    """Epsilon inside LayerNorm's root."""
    initializer: str | None = None
    """normal, truncated_normal (cut at two standard deviations, as Google does) or mimetic (normal, but near tokens attend to each other from the start). Left out: by the width."""  # noqa: E501
    train_pad_row: bool | None = None
    """Train the embedding row of [PAD] instead of keeping it at zero."""


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings(Settings):
    """How the model learns."""

    recipe: str = "huggingface"
    """huggingface or google: sets train_pad_row, adam_bias_correction, lr_schedule, mask_special and hidden_act where they are left out; google also the initializer, init_word_vectors and masked_lm_prob."""  # noqa: E501
    train_batch_size: int | None = None
    """Examples per update. Left out: chosen by the budget."""
    micro_batch_size: int | Literal["auto"] | None = None
    """Examples per forward pass; fewer need less memory, the result is the same. auto, or left out: as many as fit in free memory (on a CPU, only while more are faster)."""  # noqa: E501
    learning_rate: float | None = None
    """The peak learning rate. Left out: chosen by width and batch."""
    num_train_steps: int | None = None
    """Total number of updates. Left out, with no time limit: 40 passes over the corpus."""
    num_warmup_steps: int | None = None
    """Updates of linear warm-up at the start. Left out: 8 % of the expected updates."""
    max_train_seconds: float | None = None
    """Train for about this long: the steps that fit are fixed in the middle of the warm-up. If --num-train-steps is given too, it decides."""  # noqa: E501
    lr_schedule: str | None = None
    """linear (continuous), google (drops a little when the warm-up ends) or wsd (stays at the peak, falls at the end; made to be extended)."""  # noqa: E501
    lr_decay_share: float = DECAY_SHARE
    """With wsd: the share of the updates in which the learning rate falls."""
    optimizer: str = "adamw"
    """adamw, or muon: for the matrices of the layers, which then learn more from each step; the rest stays with AdamW."""  # noqa: E501
    weight_decay: float = 0.1
    """Decoupled decay of every weight but biases and LayerNorm."""
    adam_beta1: float = 0.9
    """Decay of the first moment."""
    adam_beta2: float = 0.98
    """Decay of the second moment (the paper has 0.999; short runs learn sooner with 0.98)."""
    adam_epsilon: float = 1e-6
    """Added to the root of the second moment."""
    adam_bias_correction: bool | None = None
    """Correct Adam's moments for their start at zero."""
    max_grad_norm: float = 1.0
    """Scale gradients down to this global norm; 0 never does."""
    seed: int = 42
    """Decides order, pairs, masks, initial weights and dropout."""


@dataclass(frozen=True, kw_only=True)
class RunSettings(ComputeSettings):
    """How the run runs; only device, dtype and threads change what is learned."""

    output_dir: str | None = None
    """The run's folder. Left out: runs/<corpus>-<preset>, or -auto where --preset is left out."""
    resume: str = "auto"
    """auto resumes a run found in the folder, never refuses to, must refuses to start a new one."""
    extend: bool = False
    """Make the run in the folder longer: with a larger --num-train-steps or --max-train-seconds."""
    save_steps: int | None = None
    """Updates between checkpoints. Left out: a fifth of the run, at most 15 minutes."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    eval_steps: int | None = None
    """Updates between evaluations. Left out: a tenth of the run, up to a quarter if evaluations take much of its time limit."""  # noqa: E501
    logging_steps: int | None = None
    """Updates between lines of the log. Left out: a fiftieth of the run."""
    dtype: str = "auto"
    """Dtype of matrix products: auto, float32, bfloat16 or float16; weights are always float32."""
    packed: bool | None = None
    """Lay the rows of a forward pass one behind the other, without padding. Left out: on a GPU if measured to be faster. Not available on a CPU."""  # noqa: E501
    compile: bool | None = None
    """Compile the steps: fewer and larger kernels, for few shapes of a micro-batch. Left out: on a GPU if measured to be faster, never on a CPU."""  # noqa: E501
    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, a third more time, the same bits."""
    deterministic: bool = False
    """On a GPU, use only algorithms that give the same bits each time (always so on a CPU)."""
    num_workers: int | None = None
    """Processes that build batches ahead; 0 builds them in the loop. Never changes a bit. Left out: 1 for a GPU, 0 on a CPU."""  # noqa: E501
    skip_non_finite: int = 0
    """How many updates of the run may be left out because a loss or gradient was not finite."""
    hang_timeout_s: float = 1800.0
    """After this many seconds without a step, print all threads' stacks and exit; 0: never."""
    report_to: tuple[str, ...] = ()
    """Send the curves to tensorboard, wandb or trackio too; several at once are possible."""
    profile: int = 0
    """Profile this many updates, after the first five: prints where a step's time goes and writes profile.json.gz for Chrome's tracing or Perfetto; the run continues."""  # noqa: E501
    dry_run: bool = False
    """Print what the run would be, with one real step's time and memory, and stop."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(
    RunSettings, OptimizationSettings, ModelSettings, ExampleSettings, CorpusSettings
):
    """Pretrain a BERT on a corpus: text in, a model folder out."""

    data: str | None = None
    """A corpus prepared by `bert-scratch prepare`, instead of --corpus."""

    def __post_init__(self) -> None:
        """Check each value the user gave.

        Raises:
            InputError: naming the flag.
        """
        self._check_sources()  # first, or --mixture with --data would report missing paths
        ComputeSettings.__post_init__(self)
        CorpusSettings.__post_init__(self)
        if self.micro_batch_size == "auto":
            object.__setattr__(self, "micro_batch_size", None)  # the same as leaving it out
        check_choice("--pair-task", self.pair_task, PAIR_TASKS)
        check_choice("--pair-sampling", self.pair_sampling, PAIR_SAMPLINGS)
        check_choice("--mask-unit", self.mask_unit, MASK_UNITS)
        check_replacements(self.mask_token_prob, self.random_token_prob)
        check_choice("--recipe", self.recipe, RECIPES)
        check_choice("--resume", self.resume, ("auto", "never", "must"))
        if self.pair_sampling == "google" and self.pair_task not in (None, "nsp"):
            raise InputError(
                f"--pair-sampling google makes nsp pairs only; got --pair-task {self.pair_task}"
            )
        check_choice("--optimizer", self.optimizer, OPTIMIZERS)
        check_choice("--preset", self.preset, BertConfig.PRESETS)
        check_choice("--hidden-act", self.hidden_act, ACTIVATIONS)
        check_choice("--initializer", self.initializer, INITIALIZERS)
        check_choice("--lr-schedule", self.lr_schedule, LEARNING_RATE_SCHEDULES)
        self._check_numbers()
        if self.extend and all(getattr(self, name) is None for name in HORIZON):
            raise InputError("--extend needs a larger --num-train-steps or --max-train-seconds")
        for name in self.report_to:
            check_choice("--report-to", name, WRITERS)
        check_range("--seed", self.seed, at_least=0, below=2**63)
        if self.preset is not None or self.hidden_size is not None:
            # Checked again when resolved; here it fails before the corpus is prepared.
            given = {name: getattr(self, name) for name in _SHAPE if self._given(name)}
            BertConfig.preset(given.pop("preset", "tiny"), **given)

    def _check_numbers(self) -> None:
        """Check each number by itself."""
        check_range("--max-seq-length", self.max_seq_length, at_least=8, at_most=65536)
        for name in ("short_seq_prob", "adam_beta1", "adam_beta2"):
            check_range(flag_of(name), getattr(self, name), at_least=0, below=1)
        check_range("--masked-lm-prob", self.masked_lm_prob, above=0, below=1)
        for name in (
            "train_batch_size",
            "micro_batch_size",
            "num_train_steps",
            "save_steps",
            "keep_checkpoints",
            "eval_steps",
            "logging_steps",
        ):
            check_range(flag_of(name), getattr(self, name), at_least=1)
        for name in (
            "num_warmup_steps",
            "num_workers",
            "weight_decay",
            "max_grad_norm",
            "skip_non_finite",
            "hang_timeout_s",
            "profile",
        ):
            check_range(flag_of(name), getattr(self, name), at_least=0)
        for name in ("learning_rate", "max_train_seconds", "adam_epsilon"):
            check_range(flag_of(name), getattr(self, name), above=0)
        check_range("--lr-decay-share", self.lr_decay_share, above=0, at_most=1)

    def _check_sources(self) -> None:
        if self.data is not None and self.corpus:
            raise InputError("--corpus and --data exclude each other; give one of them")
        if self.data is not None:
            for name in CorpusSettings.__dataclass_fields__:
                default = CorpusSettings.__dataclass_fields__[name].default
                if getattr(self, name) != default and name != "num_processes":
                    raise InputError(
                        f"{flag_of(name)} has no effect with --data: the corpus is already "
                        f"prepared; leave it out, or prepare again with `bert-scratch prepare`"
                    )
        shape = [n for n in ModelSettings.__dataclass_fields__ if n in _SHAPE and self._given(n)]
        if self.init_checkpoint is not None and shape:
            raise InputError(
                f"{flag_of(shape[0])} cannot be combined with --init-checkpoint: the shape is that "
                f"of the checkpoint"
            )
        if self.init_checkpoint is not None and self.init_word_vectors is not None:
            raise InputError(
                "--init-word-vectors cannot be combined with --init-checkpoint: a model that is "
                "continued has word embeddings already; leave one of them out"
            )
        if self.init_checkpoint is not None and self.vocab_size is not None:
            raise InputError(
                f"--vocab-size {self.vocab_size} cannot be combined with --init-checkpoint: the "
                f"vocabulary is that of the checkpoint; leave --vocab-size out"
            )
        if self.init_checkpoint is not None and self.tokenizer is not None:
            raise InputError(
                "--tokenizer cannot be combined with --init-checkpoint: the tokenizer is that of "
                "the checkpoint"
            )

    def _has_vocabulary(self) -> bool:
        return self.init_checkpoint is not None or super()._has_vocabulary()

    def _given(self, name: str) -> bool:
        return getattr(self, name) is not None


_SHAPE = frozenset(
    {
        "preset",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
    }
)

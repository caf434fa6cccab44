"""Build the parts of a run from its settings: corpus, loader, model, optimizer and more."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer

from bert_scratch.batch import Batch
from bert_scratch.config import BertConfig
from bert_scratch.data.loader import ExampleLoader, evaluation_batches
from bert_scratch.data.mask_settings import MaskSettings
from bert_scratch.data.segmenter import continuing_ids
from bert_scratch.data.store import TokenStore
from bert_scratch.data.wordpiece import (
    TokenizerFolder,
    load_tokenizer,
    special_ids,
    unselectable_ids,
)
from bert_scratch.inference.word_embeddings import InitialEmbeddings
from bert_scratch.model.compute_settings import default_num_threads
from bert_scratch.model.devices import DTYPES, resolve_device, resolve_dtype
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.pretraining.corpus_facts import CorpusFacts, corpus_facts
from bert_scratch.pretraining.pretrain_config import PretrainConfig
from bert_scratch.pretraining.resolve import (
    filled,
    micro_batch_size,
    resolve,
)
from bert_scratch.pretraining.same_vocabulary import check_same_vocabulary
from bert_scratch.pretraining.starting_model import (
    drawn_model,
    initial_shape,
    new_tokens,
    stored_model,
    with_new_rows,
    word_vectors_of,
)
from bert_scratch.pretraining.step_probe import (
    Trial,
    measure_tokens_per_s,
    probe_step,
)
from bert_scratch.training.all_reduce import IN_ONE_PROCESS, AllReduce
from bert_scratch.training.compiled import Compiled, FewShapes
from bert_scratch.training.distributed import (
    ALONE,
    Ranks,
    gpu_of_this_rank,
    ranks_on_this_machine,
)
from bert_scratch.training.loop import Plan
from bert_scratch.training.loss_scale import LossScale
from bert_scratch.training.memory import free_bytes, measured_peak_bytes, reset_peak
from bert_scratch.training.objective import PRETRAINING, Objective
from bert_scratch.training.optimizer import build_optimizer
from bert_scratch.training.packing import PackedRows
from bert_scratch.training.rehearsal import rehearse_checkpoint
from bert_scratch.training.runtime import (
    Runtime,
    measure_peak_flops_per_s,
    seed_for,
    set_up,
    train_flops_per_token,
)
from bert_scratch.training.step import Updater, evaluation_sums

BEFORE_HORIZON_INTERVAL = 25
WORTH_SEGMENTING = 0.1
"""Share of ideographs in the text from which their words matter for whole-word masks."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a run, all determined by settings, corpus and machine."""

    config: PretrainConfig
    bert_config: BertConfig
    facts: CorpusFacts
    store: TokenStore
    tokenizer: TokenizerFolder
    runtime: Runtime
    peak_flops_per_s: float
    """Peak of this rank's device."""
    ranks: Ranks
    loader: ExampleLoader
    added_tokens: dict[int, list[int]]
    """{id: ids of its former pieces} of the tokens that --init-checkpoint lacks."""
    word_vectors: Callable[[], InitialEmbeddings] | None
    """Reads or counts the vectors for --init-word-vectors, once."""
    reasons: list[str]
    """One line for each value that was chosen for the user."""

    def build_model(self, checkpoint: Path | None = None) -> BertForPreTraining:
        """Return the model, freshly initialised or from a checkpoint, on the run's device."""
        config, shape = self.config, self.bert_config
        torch.manual_seed(seed_for("weights", config.seed))
        if checkpoint is not None:
            model = stored_model(config, shape, checkpoint, new_head=False)
        elif config.init_checkpoint is not None:
            model = stored_model(config, shape, config.init_checkpoint, new_head=True)
            if self.added_tokens:
                train_pad_row = filled(config.train_pad_row)
                model = with_new_rows(model, self.added_tokens, train_pad_row=train_pad_row)
        else:
            model = drawn_model(config, shape, self.word_vectors and self.word_vectors())
        model.bert.activation_checkpointing = config.activation_checkpointing
        return model.to(self.runtime.device)

    def build_optimizer(self, model: BertForPreTraining) -> torch.optim.Optimizer:
        """Return the optimizer over the model's parameters."""
        config = self.config
        return build_optimizer(
            model,
            learning_rate=filled(config.learning_rate),
            weight_decay=config.weight_decay,
            betas=(config.adam_beta1, config.adam_beta2),
            epsilon=config.adam_epsilon,
            bias_correction=filled(config.adam_bias_correction),
            muon_dtype=self.runtime.dtype if config.optimizer == "muon" else None,
        )

    def build_updater(
        self,
        model: BertForPreTraining,
        *,
        all_reduce: AllReduce = IN_ONE_PROCESS,
        loss_scale: LossScale | None = None,
    ) -> Updater[Batch]:
        """Return the updater of the model, with a new optimizer."""
        config = self.config
        return Updater(
            model=model,
            optimizer=self.build_optimizer(model),
            objective=_objective_of(config),
            runtime=self.runtime,
            seed=config.seed,
            micro_batch_size=micro_batch_size(config),
            max_grad_norm=config.max_grad_norm,
            arrange=_arrangement_of(config),
            all_reduce=all_reduce,
            loss_scale=loss_scale,
        )

    def plan(self) -> Plan:
        """Return the loop's plan."""
        return plan_of(self.config)

    def eval_batches(self, max_examples: int | None) -> Iterator[Batch]:
        """Yield this rank's share of the first max_examples held-out examples, or all."""
        return evaluation_batches(
            self.store,
            batch_size=64,
            max_seq_length=filled(self.config.max_seq_length),
            special_ids=special_ids(self.tokenizer.tokenizer),
            unselectable_ids=unselectable_ids(self.tokenizer.tokenizer),
            pair_task=filled(self.config.pair_task),
            max_examples=max_examples,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )

    def peak_tokens_per_s(self) -> float:
        """Return the training tokens per second of all ranks at their peak."""
        flops_per_token = train_flops_per_token(
            self.bert_config,
            seq_length=filled(self.config.max_seq_length),
            masked_lm_prob=filled(self.config.masked_lm_prob),
        )
        return self.peak_flops_per_s * self.ranks.world_size / flops_per_token

    def try_out(self, rehearsal: Path) -> Trial:
        """Measure time and memory of updates, an evaluation batch and a checkpoint on a new model.

        Args:
            rehearsal: where the checkpoint is written, read back and removed.
        """
        reset_peak(self.runtime.device)
        model = self.build_model()
        updater = self.build_updater(model)
        # Stands in for the buffers of sums over ranks, which a trial in one process lacks.
        sums = [torch.empty_like(p) for p in model.parameters() if self.ranks.world_size > 1]
        probe = probe_step(updater, self.loader.batch_at(0))
        one_batch = islice(self.eval_batches(None), 1)
        evaluation_sums(model.eval(), one_batch, objective=PRETRAINING, runtime=self.runtime)
        checkpoint = rehearse_checkpoint(
            rehearsal, model=model, optimizer=updater.optimizer, tokenizer=self.tokenizer
        )
        peak = measured_peak_bytes(self.runtime.device)
        del sums
        return Trial(step=probe, checkpoint=checkpoint, peak_memory_bytes=peak)

    def with_config(self, config: PretrainConfig) -> Parts:
        """Return the same parts under changed settings."""
        return replace(self, config=config)


def _objective_of(config: PretrainConfig) -> Objective[Batch]:
    """Return the objective of a run, compiled if so chosen."""
    return Compiled(PRETRAINING) if config.compile else PRETRAINING


def _arrangement_of(config: PretrainConfig) -> PackedRows | FewShapes | None:
    """Return what packs micro-batches, or pads them to few shapes for the compiler, or None."""
    length, share = filled(config.max_seq_length), filled(config.masked_lm_prob)
    if config.packed:
        return PackedRows(
            max_seq_length=length, masked_lm_prob=share, for_compiler=bool(config.compile)
        )
    return FewShapes(max_seq_length=length, masked_lm_prob=share) if config.compile else None


def plan_of(config: PretrainConfig) -> Plan:
    """Return the loop's plan for resolved settings."""
    return Plan(
        num_train_steps=config.num_train_steps,
        num_warmup_steps=config.num_warmup_steps or 0,
        learning_rate=filled(config.learning_rate),
        lr_schedule=filled(config.lr_schedule),
        logging_steps=config.logging_steps or BEFORE_HORIZON_INTERVAL,
        eval_steps=config.eval_steps or 10**12,
        save_steps=config.save_steps or 10**12,
        lr_decay_share=config.lr_decay_share,
        skip_non_finite=config.skip_non_finite,
    )


def num_workers_on(device: torch.device, asked: int | None) -> int:
    """Return how many processes build batches: as asked, else one for a GPU, which would wait."""
    if asked is not None:
        return asked
    return 1 if device.type == "cuda" else 0


def assemble(basis: PretrainConfig, store: TokenStore, ranks: Ranks = ALONE) -> Parts:
    """Resolve the settings, except the length of a new run, and build the parts.

    Args:
        basis: what the user gave, or the resolved settings of the run to resume or of the first
            rank.
        store: the prepared corpus.
        ranks: this process and the others of the run.

    Raises:
        InputError: if corpus, checkpoint or settings cannot be used together.
    """
    device = resolve_device(basis.device)
    if ranks.world_size > 1 and device.type == "cuda":
        device = resolve_device(f"cuda:{gpu_of_this_rank()}")
    dtype, dtype_reason = resolve_dtype(basis.dtype, device)
    num_threads = basis.num_threads or max(1, default_num_threads() // ranks_on_this_machine())
    runtime = Runtime(device=device, dtype=DTYPES[dtype], num_threads=num_threads)
    if basis.init_checkpoint is not None:
        check_same_vocabulary("--init-checkpoint", basis.init_checkpoint, store, may_be_larger=True)
    tokenizer = load_tokenizer(store.folder / "tokenizer")
    added_tokens = new_tokens(basis.init_checkpoint, tokenizer) if basis.init_checkpoint else {}
    specials = special_ids(tokenizer)
    facts = corpus_facts(store, tokenizer)
    set_up(runtime, deterministic=basis.deterministic)
    peak_flops_per_s = measure_peak_flops_per_s(runtime)
    resolved = resolve(
        basis,
        facts=facts,
        runtime=runtime,
        tokens_per_s=functools.cache(
            lambda shape: ranks.world_size * measure_tokens_per_s(shape, runtime=runtime)
        ),
        pad_token_id=specials.pad,
        initial=initial_shape(basis, tokenizer, added_tokens),
        world_size=ranks.world_size,
        free_bytes=free_bytes(device) // (1 if device.type == "cuda" else ranks_on_this_machine()),
    )
    return Parts(
        config=resolved.config,
        bert_config=resolved.bert_config,
        facts=facts,
        store=store,
        tokenizer=TokenizerFolder(
            tokenizer, model_max_length=resolved.bert_config.max_position_embeddings
        ),
        runtime=runtime,
        peak_flops_per_s=peak_flops_per_s,
        ranks=ranks,
        loader=_loader(resolved.config, store, tokenizer, ranks),
        added_tokens=added_tokens,
        word_vectors=word_vectors_of(resolved.config, resolved.bert_config, tokenizer, store),
        reasons=[
            *resolved.reasons,
            *words_of_ideographs(resolved.config.mask_unit, store, facts.ideograph_share),
            f"--dtype {dtype}: {dtype_reason}",
        ],
    )


def _loader(
    config: PretrainConfig, store: TokenStore, tokenizer: Tokenizer, ranks: Ranks
) -> ExampleLoader:
    """Return the loader of this rank's share of the train examples."""
    return ExampleLoader(
        store,
        batch_size=filled(config.train_batch_size),
        max_seq_length=filled(config.max_seq_length),
        seed=config.seed,
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
        pair_task=filled(config.pair_task),
        pair_sampling=config.pair_sampling,
        short_seq_prob=config.short_seq_prob,
        masks=MaskSettings(
            unit=config.mask_unit,
            masked_lm_prob=filled(config.masked_lm_prob),
            mask_token_prob=config.mask_token_prob,
            random_token_prob=config.random_token_prob,
            mask_special=filled(config.mask_special),
        ),
        continuing_ids=continuing_ids(tokenizer),
        rank=ranks.rank,
        world_size=ranks.world_size,
    )


def words_of_ideographs(mask_unit: str, store: TokenStore, share: float) -> list[str]:
    """Return a line that says that words of several ideographs are unknown, if they matter.

    Args:
        mask_unit: of the run.
        store: its corpus.
        share: of ideographs among the tokens.
    """
    if mask_unit == "token" or store.has_word_starts or share < WORTH_SEGMENTING:
        return []
    return [
        f"--mask-unit {mask_unit}: each ideograph is a word by itself ({share:.0%} of the "
        "tokens are ideographs); a corpus prepared with --word-segmenter jieba has whole words"
    ]

"""The commands of `bert-scratch`: where each one lives, and what it does in a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """Where a command's settings and function live, as module:name below this package.

    The function is imported when the flags have been understood: a typo need not wait for torch.
    """

    settings: str
    function: str
    summary: str
    """The first line of the settings' docstring, which `--help` shows without importing them."""


COMMANDS = {
    "prepare": Command(
        "pretraining.prepare:PrepareConfig",
        "pretraining.prepare:run_prepare",
        "Prepare a corpus: learn a vocabulary and tokenise, once, for any number of runs",
    ),
    "corpus-report": Command(
        "pretraining.corpus_report:CorpusReportConfig",
        "views.corpus_page:run_corpus_report",
        "Say what a corpus holds and what looks wrong with it, before it is prepared",
    ),
    "plan": Command(
        "pretraining.plan:PlanConfig",
        "pretraining.plan:run_plan",
        "Say what pretrain would do with a corpus: sizes, time, disk, expected loss, and a verdict",
    ),
    "pretrain": Command(
        "pretraining.pretrain_config:PretrainConfig",
        "views.reported:pretrain",
        "Pretrain a BERT on a corpus: text in, a model folder out",
    ),
    "report": Command(
        "views.report:ReportConfig",
        "views.report:run_report",
        "Show what happened in a run, or in several side by side, as one page",
    ),
    "evaluate": Command(
        "pretraining.evaluate:EvaluateConfig",
        "pretraining.evaluate:run_evaluate",
        "Evaluate a model on the held-out part of a prepared corpus",
    ),
    "finetune": Command(
        "finetuning.finetune_config:FinetuneConfig",
        "views.reported:finetune",
        "Fine-tune a pretrained model on labelled examples; if stopped, the same command resumes",
    ),
    "predict": Command(
        "finetuning.predict:PredictConfig",
        "finetuning.predict:run_predict",
        "Answer a file with a fine-tuned model: labels with probabilities, numbers or spans",
    ),
    "benchmark-suite": Command(
        "finetuning.benchmark_suite:BenchmarkSuiteConfig",
        "finetuning.benchmark_suite:run_benchmark_suite",
        "Fine-tune a model on every data set in a folder, and print one table",
    ),
    "embed": Command(
        "inference.embed_files:EmbedConfig",
        "inference.embed_files:run_embed",
        "Write a vector for each text of a file, or for each of its words or tokens",
    ),
    "fill-mask": Command(
        "inference.fill_mask:FillMaskConfig",
        "inference.fill_mask:run_fill_mask",
        "Guess the words behind [MASK]",
    ),
    "next-sentence": Command(
        "inference.next_sentence:NextSentenceConfig",
        "inference.next_sentence:run_next_sentence",
        "Score whether text B follows text A",
    ),
    "explain": Command(
        "views.explain:ExplainConfig",
        "views.explain:run_explain",
        "Write a page that shows what happens inside a model when it reads a text",
    ),
    "explore": Command(
        "views.explore:ExploreConfig",
        "views.explore:run_explore",
        "Open a page on this machine that shows, as you type, what happens inside a model",
    ),
    "trace": Command(
        "views.trace:TraceConfig",
        "views.trace:run_trace",
        "Print a whole forward pass: a formula, a shape and real numbers per line",
    ),
    "score": Command(
        "inference.score:ScoreConfig",
        "views.score_table:run_score",
        "Compare models, of any vocabularies, on a text they were not trained on",
    ),
    "probe": Command(
        "finetuning.probe:ProbeConfig",
        "views.probe_page:run_probe",
        "Train a linear probe on every layer of a model, and compare it with a control task",
    ),
    "mlm-report": Command(
        "inference.mlm_report:MlmReportConfig",
        "views.mlm_page:run_mlm_report",
        "Show where a masked language model is right, and whether its probabilities can be trusted",
    ),
    "pseudo-perplexity": Command(
        "inference.pseudo_perplexity:PseudoPerplexityConfig",
        "inference.pseudo_perplexity:run_pseudo_perplexity",
        "Tell how surprising texts are: the exponential of the mean loss of each token, masked",
    ),
    "similarity": Command(
        "inference.similarity:SimilarityConfig",
        "inference.similarity:run_similarity",
        "Tell how similar two texts are: the cosine of their vectors, -1 to 1",
    ),
    "nearest": Command(
        "inference.nearest:NearestConfig",
        "inference.nearest:run_nearest",
        "Find the texts nearest to a query, by comparing it with every one",
    ),
    "bert-score": Command(
        "inference.bert_score:BertScoreConfig",
        "inference.bert_score:run_bert_score",
        "Judge candidates, A, by how well their words match those of references, B, as vectors",
    ),
    "word-vectors": Command(
        "inference.word_vectors:WordVectorsConfig",
        "inference.word_vectors:run_word_vectors",
        "Write one vector for each word: the mean over all its contexts in a file of texts",
    ),
    "whiten": Command(
        "inference.whitening:WhitenConfig",
        "inference.whitening:run_whiten",
        "Find the whitening of embedded texts, for --whitening of embed, similarity and nearest",
    ),
    "generate": Command(
        "inference.generate:GenerateConfig",
        "inference.generate:run_generate",
        "Draw texts by Gibbs sampling over masks: what the model takes for its language",
    ),
    "augment": Command(
        "inference.augment:AugmentConfig",
        "inference.augment:run_augment",
        "Enlarge a labelled file: each row, then copies with some words replaced, labels kept",
    ),
    "convert": Command(
        "inference.convert:ConvertConfig",
        "inference.convert:run_convert",
        "Turn a BERT folder of any age into one with safetensors and tokenizer.json",
    ),
    "compare-hf": Command(
        "testing:CompareConfig",
        "testing:run_compare",
        "Run a model here and in transformers and compare every stage",
    ),
    "check": Command(
        "checking.check:CheckConfig",
        "checking.check:run_check",
        "Compare a component of your own with ours and Hugging Face's, and train with it in place",
    ),
}

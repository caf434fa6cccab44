"""The plan of a store: what its manifest will say, made once and kept for resuming."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bert_scratch import durable
from bert_scratch.config import InputError, read_json_object
from bert_scratch.data.store import MANIFEST, read_manifest
from bert_scratch.data.wordpiece import (
    load_tokenizer,
    save_tokenizer,
    tokenizer_hash,
    vocab_size_of,
)
from bert_scratch.pretraining import corpus_plan
from bert_scratch.pretraining.corpus_plan import Text
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.learn_vocabulary import given_tokenizer, learn_tokenizer
from bert_scratch.pretraining.tokenise import (
    TOKENIZER_FOLDER,
    remove_temporary,
    unfinished_files,
)

PLAN = "plan.json"
PLACES = "text_places.json"
"""Where the text was, kept beside the manifest, which is the same wherever the text is."""

_READ_AT = "read_at"
_CLOCK_S = 1.0
"""Upper bound on how much coarser a file system's clock is than this process's."""


def make_plan(settings: CorpusSettings, text: Text, folder: Path) -> dict[str, Any]:
    """Return the plan of a store, reusing that of a stopped run if it still holds.

    A new plan is written to the folder with the tokenizer, and files that a stopped run left there
    under another plan are removed.

    Raises:
        InputError: if text or tokenizer cannot be used.
    """
    path = folder / PLAN
    stored = read_json_object(path) if path.exists() else {}
    read_at = time.time() - _CLOCK_S
    if stored and _still_holds(stored, settings, text, folder):
        print(f"corpus     resuming the preparation in {folder}")
        remove_temporary(folder)
        return stored
    _remove_unfinished(path)
    sources = corpus_plan.describe_sources(text.sources, text.rules.sentence_rules)
    eval_fraction = settings.eval_fraction
    if eval_fraction is None:
        eval_fraction = corpus_plan.choose_eval_fraction(text)
        size = f"about {text.num_bytes:,} bytes of text"
        print(f"chosen     --eval-fraction {eval_fraction:.4g}: for {size}")
    rules = replace(text.rules, eval_fraction=eval_fraction)
    tokenizer, report = given_tokenizer(settings), None
    if tokenizer is None:
        tokenizer, report = learn_tokenizer(settings, replace(text, rules=rules))
    durable.remove_leftovers(folder / TOKENIZER_FOLDER)
    save_tokenizer(tokenizer, folder / TOKENIZER_FOLDER)
    durable.write_json(folder / PLACES, {"places": corpus_plan.places_of(text.sources)})
    plan = {
        "asked": _asked(settings),
        "sources": sources,
        "slices": corpus_plan.describe_shards(text),
        "mixture": list(settings.mixture),
        "word_segmenter": settings.word_segmenter,
        "resolved": {
            "vocab_size": vocab_size_of(tokenizer),
            # a tokenizer that was given decides what is left out
            "lowercase": settings.lowercase if report is None else bool(settings.lowercase),
            "strip_accents": (
                settings.strip_accents if report is None else bool(settings.strip_accents)
            ),
            "eval_fraction": eval_fraction,
        },
        "vocabulary": report,
        "tokenizer_sha256": tokenizer_hash(tokenizer),
    }
    durable.write_json(path, {**plan, _READ_AT: read_at})
    return {**plan, _READ_AT: read_at}


def _remove_unfinished(plan: Path) -> None:
    """Remove the files that a stopped run left beside its plan, the plan last."""
    left = unfinished_files(plan.parent)
    whole = [path for path in left if path.suffix != ".tmp"]  # a kill may leave .tmp files
    if whole and plan not in whole:
        raise InputError(
            f"{whole[0]}: has a name that prepared corpora use, but there is no {PLAN} next to "
            f"it; choose another --output-dir, or delete it"
        )
    for path in sorted(left, key=plan.__eq__):
        path.unlink()


def _still_holds(plan: dict[str, Any], settings: CorpusSettings, text: Text, folder: Path) -> bool:
    """Tell whether a stopped run's plan equals the one that would be made today."""
    if not {"asked", "slices", "sources", "tokenizer_sha256", "resolved", _READ_AT} <= plan.keys():
        raise InputError(
            f"{folder / PLAN}: is not the plan of a prepared corpus; choose another --output-dir, "
            f"or delete {folder}"
        )
    if plan["asked"] != _asked(settings):
        return False
    if plan["slices"] != corpus_plan.describe_shards(text):
        return False
    if any(changed_text(plan, text, folder)):
        return False
    tokenizer = load_tokenizer(folder / TOKENIZER_FOLDER)
    return bool(tokenizer_hash(tokenizer) == plan["tokenizer_sha256"])


def manifest_facts(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of a plan for the manifest: only those that any run would write alike."""
    return {name: value for name, value in plan.items() if name != _READ_AT}


def changed_text(plan: dict[str, Any], text: Text, folder: Path) -> list[str]:
    """Return what has changed in the text since the plan in the folder was made."""
    return list(_differing_sources(plan, text, folder, since=plan[_READ_AT]))


def _differing_sources(
    stored: dict[str, Any], text: Text, folder: Path, *, since: float
) -> Iterator[str]:
    """Yield what differs between a plan's or manifest's text and today's."""
    sources, path = stored["sources"], folder / PLACES
    unknown = [None] * len(sources)  # older versions did not note them
    places = read_json_object(path).get("places", unknown) if path.exists() else unknown
    return corpus_plan.differing_sources(
        sources, text.sources, text.rules.sentence_rules, since=since, places=places
    )


def with_held_out(text: Text, plan: dict[str, Any]) -> Text:
    """Return the text with the held-out share set as in the plan."""
    rules = replace(text.rules, eval_fraction=plan["resolved"]["eval_fraction"])
    return replace(text, rules=rules)


def store_differences(folder: Path, settings: CorpusSettings, text: Text) -> list[str]:
    """Return lines on what differs between a prepared corpus and what would be prepared today."""
    manifest = read_manifest(folder)
    found = tokenizer_hash(load_tokenizer(folder / TOKENIZER_FOLDER))
    differences = []
    if found != manifest["tokenizer_sha256"]:
        differences.append(f"{folder / TOKENIZER_FOLDER}: was changed after the corpus was made")
    return [
        *differences,
        *corpus_plan.differing_settings(manifest, _asked(settings)),
        *_differing_sources(manifest, text, folder, since=(folder / MANIFEST).stat().st_mtime),
    ]


def _asked(settings: CorpusSettings) -> dict[str, Any]:
    """Return the settings that determine a store's bytes, with a tokenizer given by its hash."""
    by_content = {"corpus", "tokenizer", "add_tokens"}
    names = set(CorpusSettings.__dataclass_fields__) - by_content - {"num_processes"}
    asked = {name: value for name, value in settings.to_dict().items() if name in names}
    given = given_tokenizer(settings)
    return {**asked, "tokenizer": None if given is None else tokenizer_hash(given)}

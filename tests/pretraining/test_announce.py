"""Pins what a run says of a mixture. Anywhere: `pytest tests/pretraining/test_announce.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_scratch.data.loader import ExampleLoader
from bert_scratch.data.wordpiece import load_tokenizer, special_ids, unselectable_ids
from bert_scratch.pretraining.announce import describe_mixture
from bert_scratch.pretraining.corpus_settings import CorpusSettings
from bert_scratch.pretraining.prepare import prepare


def loader_of(folder: Path, mixture: tuple[str, ...]) -> ExampleLoader:
    """Prepare 400 documents of one language and 40 of another, and open them."""
    paths = []
    for name, num_documents in (("large", 400), ("small", 40)):
        lines = [f"The {name} text says {n}.\nThen it says {n + 1} again." for n in range(400)]
        path = folder / f"{name}.txt"
        path.write_text("\n\n".join(lines[:num_documents]) + "\n", encoding="utf-8")
        paths.append(str(path))
    settings = CorpusSettings(
        corpus=tuple(paths), documents="blank-lines", mixture=mixture, num_processes=1
    )
    store = prepare(settings.replace(vocab_size=120, eval_fraction=0.1), folder / "store")
    tokenizer = load_tokenizer(store.folder / "tokenizer")
    return ExampleLoader(
        store,
        batch_size=4,
        max_seq_length=32,
        seed=1,
        special_ids=special_ids(tokenizer),
        unselectable_ids=unselectable_ids(tokenizer),
    )


def test_each_component_is_told_with_its_share_and_passes(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, ("1", "1"))
    large, small = describe_mixture(loader, num_drawn=20 * loader.num_examples)
    assert "large.txt: 50.0% of the examples, " in large and "dropout" not in large
    passes = float(small.partition(" passes")[0].rpartition(" ")[2])
    assert 80 < passes < 140
    assert "above the 40 passes from which dropout may help" in small
    assert "the average, 20.0" in small


def test_passes_below_the_border_and_runs_without_a_mixture_need_no_warning(
    tmp_path: Path,
) -> None:
    loader = loader_of(tmp_path, ("1", "1"))
    assert all("dropout" not in line for line in describe_mixture(loader, num_drawn=100))
    (tmp_path / "plain").mkdir()
    assert describe_mixture(loader_of(tmp_path / "plain", ()), num_drawn=100) == []


@pytest.mark.parametrize("mixture", [("9", "1"), ("share^0.5",)])
def test_shares_told_add_up(mixture: tuple[str, ...], tmp_path: Path) -> None:
    lines = describe_mixture(loader_of(tmp_path, mixture), num_drawn=1000)
    shares = [float(line.partition("% of the examples")[0].rpartition(" ")[2]) for line in lines]
    assert sum(shares) == pytest.approx(100, abs=0.11)

"""Pins what a notebook shows of pages and tables: whole, escaped, kept away from the notebook.
Run alone: `pytest tests/views/test_notebook.py`.
"""

from __future__ import annotations

import copy
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch import explain, report
from bert_scratch.config import InputError
from bert_scratch.inference.bits_per_character import SentenceBits
from bert_scratch.inference.estimate import Estimate
from bert_scratch.inference.score import Score
from bert_scratch.inference.score_answers import ModelScore
from bert_scratch.inference.score_questions import References
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import explanation
from bert_scratch.views.notebook import ScoreTable

TEXT = 'the "cat" [MASK] <script>alert(1)</script>'


def test_page_of_explain_stands_in_a_frame_without_an_origin(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    page = explain(model, tokenizer, TEXT, attribution_steps=1)
    values = explanation(model, tokenizer, TEXT, None, num_steps=1)
    assert page.html == explain_page("BertForPreTraining", values)
    shown = page._repr_html_()
    found = re.fullmatch(r'<iframe title="([^"]*)" ([^>]*) srcdoc="([^"]*)"></iframe>', shown)
    assert found is not None
    assert html.unescape(found[1]) == TEXT
    assert 'sandbox="allow-scripts"' in found[2] and "allow-same-origin" not in found[2]
    assert html.unescape(found[3]) == page.html
    assert "<script" not in repr(page).replace(repr(TEXT), "")


def test_page_is_saved_where_it_can_be(
    model: BertForPreTraining, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    page = explain(model, tokenizer, "the cat", attribution_steps=1)
    place = page.save(tmp_path / "new" / "page.html")
    assert place.read_text(encoding="utf-8") == page.html
    with pytest.raises(InputError, match="is a folder"):
        page.save(tmp_path)


def test_report_of_a_run_is_its_page(tmp_path: Path) -> None:
    (tmp_path / "finetune_config.json").write_text("{}")
    line = {"step": 2, "split": "train", "loss": 0.6}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    page = report(tmp_path)
    assert page.title == tmp_path.name
    assert "Fine-tuning" in page.html and "srcdoc=" in page._repr_html_()
    with pytest.raises(InputError, match="no such folder"):
        report(tmp_path / "nowhere")


def test_report_of_no_run_is_refused() -> None:
    with pytest.raises(InputError, match="report needs at least one run folder"):
        report()


@pytest.mark.parametrize("steps", [0, 257])
def test_attribution_steps_out_of_range_are_refused(
    model: BertForPreTraining, tokenizer: Tokenizer, steps: int
) -> None:
    with pytest.raises(InputError, match="attribution_steps must be >= 1 and <= 256"):
        explain(model, tokenizer, TEXT, attribution_steps=steps)


def test_scores_are_a_table_and_names_in_it_are_text() -> None:
    ones, none = np.full(50, 10.0), np.zeros(50)
    half = Estimate(mean=0.5, standard_error=0.01)
    model = ModelScore(
        model="<b>model",
        num_parameters=1,
        vocab_size=9,
        bits=SentenceBits(characters=ones, tokens=2 * ones, unread=none, restoring=none),
        loses=(),
        pieces_per_word=1.25,
        unknown_words=0.0,
        masked_words=half,
        displaced_words=[half],
        next_sentence=None,
        nearest_sentence=None,
    )
    references = References(
        uniform_bits=6.0,
        character_count_bits=4.5,
        compressed_bits=2.2,
        most_frequent_word=half,
        two_neighbours=half,
        next_sentence=None,
        nearest_sentence=None,
    )
    found = Score(
        text="a.txt",
        num_sentences=50,
        num_characters=500,
        num_masked_words=50,
        num_pairs=0,
        num_other_characters=1000,
        references=references,
        models=[model],
    )
    shown = ScoreTable(found)._repr_html_()
    assert "<b>model" not in shown and "model: &lt;b&gt;model" in shown
    assert '<td class="n">1.25</td>' in shown and "<p>50 sentences of a.txt" in shown
    assert "pieces per word" in repr(ScoreTable(found))


def test_model_in_half_precision_is_refused_with_the_remedy(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    half = copy.deepcopy(model).bfloat16()
    with pytest.raises(InputError, match=r"got torch.bfloat16: give model.float\(\)"):
        explain(half, tokenizer, "the cat")

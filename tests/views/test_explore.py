"""Pins what `explore` answers: what `explain` shows, only on this machine, only with its secret.
Runs anywhere that has Flask: `pytest tests/views/test_explore.py`.
"""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from bert_scratch.cli import main
from bert_scratch.config import InputError
from bert_scratch.data.wordpiece import build_tokenizer
from bert_scratch.inference.next_sentence import next_sentence
from bert_scratch.model.heads import BertForMaskedLM, BertForPreTraining
from bert_scratch.views.embedding_map import known_methods, project
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import explanation
from bert_scratch.views.explore_app import MAX_REQUEST_BYTES, explore_app
from bert_scratch.views.explore_page import MAX_CHARACTERS, MAX_LINES
from bert_scratch.views.explorer import (
    NUM_PAGES_KEPT,
    Explorer,
    NamedModel,
    check_same_words,
    with_hidden,
    words_of,
)

pytest.importorskip("flask")

SECRET = "a-secret"
TEXT, PAIR = "the cat alert [MASK] 北京 .", "a dog"
LINES = "the cat\nthe dog\na garden\n\na house\n"


@pytest.fixture(scope="module")
def explorer(model: BertForPreTraining, tokenizer: Tokenizer) -> Explorer:
    named = NamedModel(name="one <b>", model=model, tokenizer=tokenizer)
    encoder = NamedModel(name="two", model=model.bert, tokenizer=tokenizer)
    return Explorer([named, encoder], attribution_steps=2)


@pytest.fixture(scope="module")
def client(explorer: Explorer) -> Any:
    return explore_app(explorer, SECRET).test_client()


@pytest.fixture
def ask(client: Any) -> Callable[..., Any]:
    """Ask as the page does; returns the whole answer."""

    def post(name: str, **values: Any) -> Any:
        return client.post(f"/{SECRET}/{name}", json=values)

    return post


def test_words_are_those_of_the_text_with_their_pieces(tokenizer: Tokenizer) -> None:
    words = words_of(tokenizer, TEXT)
    assert [TEXT[w.start : w.end] for w in words] == [
        "the", "cat", "alert", "[MASK]", "北", "京", ".",
    ]  # fmt: skip
    assert words[2].pieces == ("al", "##er", "##t")
    assert [w.is_mask for w in words] == [False] * 3 + [True] + [False] * 3


def test_hidden_word_becomes_a_mask_for_each_piece_and_no_other_token_changes(
    tokenizer: Tokenizer, model: BertForPreTraining
) -> None:
    words = words_of(tokenizer, TEXT)
    changed = with_hidden(TEXT, words, [4, 2, 99])
    assert changed == "the cat [MASK][MASK][MASK] [MASK] [MASK]京 ."
    tokens = explanation(model, tokenizer, changed, None, num_steps=1)["tokens"]
    assert tokens[1:-1] == ["the", "cat", *["[MASK]"] * 5, "京", "."]


def test_page_is_the_page_of_explain_with_words_hidden(
    ask: Callable[..., Any], client: Any, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    pages = ask("look", text=TEXT, pair=PAIR, hidden=[[1], [1]]).get_json()["pages"]
    assert len(pages) == 2
    hidden = ("the [MASK] alert [MASK] 北京 .", "a [MASK]")
    values = explanation(model, tokenizer, *hidden, num_steps=2)
    shown = client.get(f"/{SECRET}/page/{pages[0]}")
    assert shown.text == explain_page("one <b>", values)
    assert "Predictions, layer by layer" not in client.get(f"/{SECRET}/page/{pages[1]}").text


def test_pages_are_forgotten_after_a_while(ask: Callable[..., Any], client: Any) -> None:
    (first, _) = ask("look", text="the cat", pair="", hidden=[[], []]).get_json()["pages"]
    for _ in range(NUM_PAGES_KEPT // 2):
        ask("look", text="the cat", pair="", hidden=[[], []])
    gone = client.get(f"/{SECRET}/page/{first}")
    assert gone.status_code == 404 and "look at the text again" in gone.text


def test_pair_is_judged_in_both_orders_by_a_model_that_can(
    ask: Callable[..., Any], model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    found = ask("read", text="the cat", pair=PAIR).get_json()
    expected = [
        next_sentence(model, tokenizer, *pair).is_next
        for pair in (("the cat", PAIR), (PAIR, "the cat"))
    ]
    assert found["follows"] == [pytest.approx(expected, abs=1e-6), None]
    assert [[word["text"] for word in words] for words in found["words"]] == [
        ["the", "cat"],
        ["a", "dog"],
    ]
    assert ask("read", text="the cat", pair=" ").get_json()["follows"] == []


def test_map_has_a_point_for_each_line_that_says_something(ask: Callable[..., Any]) -> None:
    found = ask("map", lines=LINES, method="pca").get_json()
    assert found["lines"] == ["the cat", "the dog", "a garden", "a house"]
    one, two = found["maps"]
    assert len(one["points"]) == 4 and 0 < one["kept"] <= 1
    assert one == two, "both have the same encoder"


def test_pca_lays_a_plane_out_as_it_is() -> None:
    draw = np.random.default_rng(0)
    flat = draw.normal(size=(20, 2)).astype(np.float32)
    turn, _ = np.linalg.qr(draw.normal(size=(9, 9)))
    vectors = (flat @ turn[:2] + 5).astype(np.float32)
    found = project(vectors, "pca")
    points = np.array(found["points"])

    def distances(at: Any) -> Any:
        return np.linalg.norm(at[:, None] - at[None, :], axis=-1)

    np.testing.assert_allclose(distances(points), distances(flat), atol=1e-4)
    assert found["kept"] == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["pca", "t-sne"])
@pytest.mark.filterwarnings("error")
def test_vectors_that_do_not_vary_lie_at_one_point(method: str) -> None:
    found = project(np.full((4, 8), 0.3, np.float32), method)
    assert found == {"points": [[0.0, 0.0]] * 4, "kept": 1.0 if method == "pca" else None}


@pytest.mark.parametrize("num_lines", [3, 40])
def test_tsne_takes_few_and_many_lines_and_repeats_itself(num_lines: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(num_lines, 8)).astype(np.float32)
    found = project(vectors, "t-sne")
    assert np.isfinite(found["points"]).all() and found["kept"] is None
    assert found == project(vectors, "t-sne")


def test_umap_is_offered_where_it_is_installed() -> None:
    is_there = importlib.util.find_spec("umap") is not None
    assert ("umap" in known_methods()) == is_there


@pytest.mark.parametrize("path", ["/", "/page/1", "/wrong/", "/wrong/read", "/a-secre/", "/é/"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_every_address_without_the_secret_is_forbidden(client: Any, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    assert answer.status_code == 403
    assert "lacks the secret" in answer.text and SECRET not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example"])
def test_request_under_another_name_is_refused(client: Any, host: str) -> None:
    answer = client.get(f"/{SECRET}/", headers={"Host": host})
    assert answer.status_code == 400
    assert "not trusted" in answer.text and "Explore BERT" not in answer.text


def test_page_may_load_from_its_own_server_alone(client: Any) -> None:
    answer = client.get(f"/{SECRET}/", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 200
    policy = re.search('Content-Security-Policy" content="([^"]*)"', answer.text)
    assert policy is not None
    assert re.fullmatch(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-[^' ]+'; "
        "connect-src 'self'; frame-src 'self'",
        policy[1],
    )
    assert not re.findall("https?://(?!www.w3.org/2000/svg)", answer.text)
    assert "one &lt;b&gt;" in answer.text and "one <b>" not in answer.text
    headers = answer.headers
    assert "frame-ancestors 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in headers.keys() if name.startswith("Access-Control")]


HALF = "\ud800 abc"
LONG, MANY = "a" * (MAX_CHARACTERS + 1), "the cat\n" * (MAX_LINES + 1)


@pytest.mark.parametrize(
    ("name", "values", "code", "words"),
    [
        ("read", {"text": LONG, "pair": ""}, 413, "2,000 characters; this one has 2,001"),
        ("look", {"text": "the", "pair": LONG, "hidden": [[], []]}, 413, "2,000 characters"),
        ("look", {"text": " ", "pair": "", "hidden": [[], []]}, 400, "no token to look at"),
        ("look", {"text": "the " * 127, "pair": "", "hidden": [[], []]}, 400, "at most 128"),
        ("look", {"text": "the", "pair": "", "hidden": [[]]}, 400, "two lists of whole numbers"),
        ("look", {"text": "the", "pair": "", "hidden": [["1"], []]}, 400, "whole numbers"),
        ("look", {"text": "the", "pair": ""}, 400, "needs 'hidden'"),
        ("look", {"text": "a", "pair": "", "hidden": [[99], []]}, 400, "no word 99 in the first"),
        ("look", {"text": "a", "pair": "", "hidden": [[-1], []]}, 400, "no word -1 in the first"),
        ("look", {"text": "a", "pair": "", "hidden": [[], [3]]}, 400, "no word 3 in the second"),
        ("read", {"text": 1, "pair": ""}, 400, "needs 'text', as str"),
        ("read", {"text": HALF, "pair": ""}, 400, "'text' holds half of a surrogate pair"),
        ("look", {"text": "a", "pair": HALF, "hidden": [[], []]}, 400, "'pair' holds half"),
        ("map", {"lines": LINES + HALF, "method": "pca"}, 400, "'lines' holds half"),
        ("map", {"lines": MANY, "method": "pca"}, 413, "500 lines; these are 501"),
        ("map", {"lines": "the cat\na dog", "method": "pca"}, 400, "3 lines or more"),
        ("map", {"lines": LINES, "method": "magic"}, 400, "must be one of"),
    ],
)
def test_what_cannot_be_used_is_one_clear_sentence(
    ask: Callable[..., Any], name: str, values: dict[str, Any], code: int, words: str
) -> None:
    answer = ask(name, **values)
    assert answer.status_code == code
    assert words in answer.text and answer.text.count("\n") == 1
    assert answer.content_type.startswith("text/plain")


def test_request_that_is_too_large_or_no_json_is_refused(client: Any) -> None:
    place = f"/{SECRET}/read"
    large = b'{"text": "' + b"a" * MAX_REQUEST_BYTES + b'", "pair": ""}'
    assert client.post(place, data=large, content_type="application/json").status_code == 413
    assert client.post(place, data="{", content_type="application/json").status_code == 400
    assert client.post(place, data="text=a&pair=").status_code == 415
    assert client.post(place, json=[1]).status_code == 400
    assert client.get(place).status_code == 405


def test_models_of_other_words_are_not_compared(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    vocab = tokenizer.get_vocab()
    swapped = vocab | {"cat": vocab["dog"], "dog": vocab["cat"]}
    other = build_tokenizer(swapped, lowercase=True, strip_accents=False, nfc=False)
    models = [
        NamedModel(name=name, model=model, tokenizer=own)
        for name, own in (("one", tokenizer), ("two", other))
    ]
    with pytest.raises(InputError, match="one and two: their vocabularies differ"):
        check_same_words(models)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], "--port must be >= 0 and <= 65535"),
        (["--attribution-steps", "0"], "--attribution-steps"),
        (["--model", "b", "c"], "one or two models; got 3"),
    ],
)
def test_wrong_flags_are_one_line(
    arguments: list[str], words: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explore", "--model", str(model_folder), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_port_that_is_taken_is_one_line(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["explore", "--model", str(model_folder), "--port", str(port)])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--port {port}: " in line and "0 for a free one" in line


def test_model_without_a_pair_head_says_nothing_about_pairs(
    model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    masked = BertForMaskedLM(model.config).eval()
    explorer = Explorer(
        [NamedModel(name="m", model=masked, tokenizer=tokenizer)], attribution_steps=1
    )
    assert explorer.read("the cat", "a dog")["follows"] == [None]

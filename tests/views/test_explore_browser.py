"""Pins that `explore` works in a browser: typed, hidden, compared, mapped, inert; and that it ends.
Needs chromium and Flask; slow. Run alone: `pytest -m slow tests/views/test_explore_browser.py`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.explore_app import HOST, explore_app
from bert_scratch.views.explorer import Explorer, NamedModel

pytestmark = pytest.mark.slow
serving = pytest.importorskip("werkzeug.serving")
pytest.importorskip("flask")

TEXT = "the cat <script>alert(1)</script> sees 北京"


@pytest.fixture(scope="module")
def address(model: BertForPreTraining, tokenizer: Tokenizer) -> Iterator[str]:
    """Of a server that shows two checkpoints."""
    later = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in later.parameters():
            parameter.mul_(0.9)
    models = [
        NamedModel(name=name, model=one, tokenizer=tokenizer)
        for name, one in (("step-1 <b>", model), ("step-2", later))
    ]
    app = explore_app(Explorer(models, attribution_steps=1), "secret")
    server = serving.make_server(HOST, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.port}/secret/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page in a browser; an error, a dialog or a request elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))

    def check(request: Any) -> None:
        if not request.url.startswith(address):
            wrong.append(request.url)

    page.on("request", check)
    page.goto(address)
    wait(page)
    yield page
    assert wrong == []
    context.close()


def until(page: Any, holds: str) -> None:
    """Wait for a condition; Playwright's own way is an eval, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(holds):
        assert time.monotonic() < end, holds
        page.wait_for_timeout(50)


def wait(page: Any) -> None:
    """Wait until the answers to what was asked last are there."""
    until(
        page,
        "document.querySelectorAll('iframe:not(.coming)').length === 2 && "
        "byId('note').textContent === ''",
    )


def type_text(page: Any, text: str) -> None:
    page.fill("#text", text)
    words = re.sub(r"\s", "", text)
    until(page, f"byId('words').textContent === {words!r}")
    wait(page)


def inside(page: Any, number: int, script: str) -> Any:
    return page.frames[number + 1].evaluate(script)


def test_typed_text_is_read_live_and_its_tags_are_text(opened: Any) -> None:
    type_text(opened, TEXT)
    tokens = inside(opened, 0, "explained.data.tokens")
    assert tokens[:3] == ["[CLS]", "the", "cat"] and "<" in tokens and tokens[-2] == "京"
    assert opened.locator("#words button").all_inner_texts()[2] == "<"
    assert "step-1 <b>" in opened.locator("header p").inner_text()
    assert opened.frame_locator("iframe").first.locator("#heads button").count() == 6


def test_choosing_a_word_hides_it_and_the_models_guess(opened: Any) -> None:
    type_text(opened, "the cat sees alert .")
    opened.locator("#words button", has_text="alert").click()
    opened.wait_for_selector("#guesses td")
    wait(opened)
    assert inside(opened, 0, "explained.data.masks") == [4, 5, 6]
    assert inside(opened, 1, "explained.state.token") == 4, "the hidden word is looked at"
    rows = opened.locator("#guesses tr").all()
    assert len(rows) == 2 * 3, "two models, three pieces"
    assert rows[2].locator("th").all_inner_texts() == ["##er", "step-1 <b>"]
    assert rows[0].locator("td").count() == 6
    opened.locator("#words button", has_text="alert").click()
    until(opened, "byId('guesses').hidden")
    wait(opened)
    assert inside(opened, 0, "explained.data.masks") == []


def test_both_models_show_the_same_head_and_token(opened: Any) -> None:
    type_text(opened, "the cat sees a dog .")
    first, second = (opened.frame_locator("iframe").nth(number) for number in range(2))
    first.locator("#heads button").nth(1).click()
    assert second.locator("#head-title").inner_text() == "Layer 1, head 2"
    second.locator("#tokens button", has_text="dog").click()
    assert first.locator("#tokens [aria-pressed=true]").inner_text() == "dog"
    type_text(opened, "the cat sees a dog in a house .")
    assert inside(opened, 0, "explained.state.head") == 1, "kept while one types"


def test_pair_has_a_meter_for_each_order_and_model(opened: Any) -> None:
    type_text(opened, "the cat .")
    opened.fill("#pair", "a dog .")
    opened.wait_for_selector("#follows dd")
    wait(opened)
    assert opened.locator("#follows dd").count() == 4
    assert re.fullmatch(r"[\d.]+ %", opened.locator("#follows dd").first.inner_text().strip())
    assert "Next sentence" in opened.frame_locator("iframe").first.locator("body").inner_text()
    opened.fill("#pair", "")
    opened.wait_for_selector("#follows dd", state="detached")
    wait(opened)


def test_lines_are_laid_out_and_found(opened: Any) -> None:
    opened.click("#part [data-value=map]")
    opened.wait_for_selector("#maps circle")
    opened.fill("#lines", "the cat\na <b>dog</b>\na house\na garden")
    until(opened, "document.querySelectorAll('#maps circle').length === 8")
    assert "variance" in opened.locator("#maps figcaption").first.inner_text()
    opened.locator("#maps .point").nth(1).locator("circle").hover()
    assert opened.locator("#map-note").inner_text() == "a <b>dog</b>"
    assert opened.locator("#maps .chosen").count() == 2
    opened.click("#method [data-value=t-sne]")
    until(opened, "!byId('maps').textContent.includes('variance')")


def test_refusal_is_told_and_the_page_goes_on(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    wait(page)
    page.fill("#text", "the " * 127)
    until(page, "byId('note').textContent.includes('at most 128')")
    type_text(page, "the cat")
    assert "at most" not in page.locator("#note").inner_text()
    page.click("#part [data-value=map]")
    page.fill("#lines", "one")
    until(page, "byId('map-note').textContent.includes('3 lines or more')")
    assert page.locator("#maps circle").count() > 0
    page.close()


def test_light_and_dark_reach_the_frames(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.click("#theme")
    dark = opened.evaluate(ground)
    assert dark != light and inside(opened, 0, ground) == inside(opened, 1, ground) == dark
    opened.frame_locator("iframe").first.locator("#tokens button").first.press("t")
    assert opened.evaluate(ground) == inside(opened, 1, ground) == light


@pytest.mark.parametrize("width", [390, 800, 1600])
def test_page_is_no_wider_than_the_window(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    opened.fill("#pair", "a dog")
    opened.wait_for_selector("#follows dd")
    wait(opened)
    for frame in opened.frames:
        assert frame.evaluate("document.documentElement.scrollWidth <= innerWidth"), frame.url


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_its_address_and_a_signal_ends_it_well(
    number: signal.Signals, model_folder: Path
) -> None:
    command = [sys.executable, "-m", "bert_scratch", "explore", "--model", str(model_folder)]
    process = subprocess.Popen(
        [*command, "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"open +(http://127\.0\.0\.1:\d+/)[\w-]{22}/\n", line)
    assert found is not None, line
    with urllib.request.urlopen(line.split()[1], timeout=60) as answer:
        assert b"Explore BERT" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(found[1], timeout=60)
    error.value.close()
    assert error.value.code == 403
    look = urllib.request.Request(
        line.split()[1] + "look",
        data=json.dumps({"text": "the cat", "pair": "", "hidden": [[], []]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(look, timeout=60) as answer:
        assert json.load(answer) == {"pages": [1]}
    process.send_signal(number)  # the thread that answered may not have ended
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")

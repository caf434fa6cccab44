"""Pins that the page of `explain` works in a browser: drawn, clicked, typed at, inert, alone.
Needs chromium; slow. Run alone: `pytest -m slow tests/views/test_explain_browser.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from bert_scratch.config import BertConfig
from bert_scratch.model.heads import BertForPreTraining
from bert_scratch.views.explain import explain_page
from bert_scratch.views.explain_data import explanation

pytestmark = pytest.mark.slow

TEXT = "the cat [MASK] <script>alert(1)</script> 北京 & a dog"
PANELS = (
    "#head path",
    "#rollout canvas",
    "#lens-grid td",
    "#lens-detail td",
    "#integrated span",
    "#gradient span",
    "#nearest td",
    "#cka canvas",
    "#similarity canvas",
    "#drift canvas",
    "#norms canvas",
    "#parts canvas",
)


@pytest.fixture(scope="module")
def page_path(
    model: BertForPreTraining, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("explain") / "page.html"
    values = explanation(model, tokenizer, TEXT, "a </script> house", num_steps=2)
    path.write_text(explain_page("</script><img src=x onerror=alert(2)>", values))
    return path


@pytest.fixture
def opened(browser: Any, page_path: Path) -> Iterator[Any]:
    """The page in a browser; any error, dialog or request but its own fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url))
    page.goto(page_path.as_uri())
    page.locator("#lens-grid td").first.wait_for(state="attached")
    yield page
    assert wrong == [page_path.as_uri()]
    context.close()


def chosen_token(page: Any) -> str:
    text: str = page.locator("#tokens [aria-pressed=true]").text_content()
    return text


def test_everything_is_drawn(opened: Any) -> None:
    assert opened.locator("#heads button").count() == 2 * 3
    assert opened.locator("#tokens button").count() == opened.evaluate("tokens.length")
    for panel in PANELS:
        assert opened.locator(panel).first.is_visible(), panel
    assert chosen_token(opened) == "[MASK]"
    assert opened.locator("h1").text_content() == "Inside BERT"
    assert "</script><img src=x" in opened.locator("header p").text_content()


def test_every_canvas_has_something_on_it(opened: Any) -> None:
    count = """canvas => {
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      return new Set(new Uint32Array(pixels.buffer)).size;
    }"""
    canvases = opened.locator("#heads canvas, #rollout canvas, #similarity canvas").all()
    assert len(canvases) == 8
    assert all(canvas.evaluate(count) > 5 for canvas in canvases)


def test_choosing_a_token_moves_everything(opened: Any) -> None:
    before = {panel: opened.locator(panel.split()[0]).inner_html() for panel in PANELS[:7]}
    opened.locator("#tokens button", has_text="dog").click()
    assert chosen_token(opened) == "dog"
    assert "In the place of dog" in opened.locator("#lens-title").text_content()
    assert "Computed at [MASK]" in opened.locator("#integrated-note").text_content()
    unchanged = [
        p for p, html in before.items() if opened.locator(p.split()[0]).inner_html() == html
    ]
    assert unchanged == []
    opened.locator("#tokens button").first.click()
    assert "is never hidden" in opened.locator("#lens-title").text_content()


def test_clicking_heads_and_switches(opened: Any) -> None:
    opened.locator("#heads button").nth(2).click()
    assert opened.locator("#head-title").text_content() == "Layer 1, head 3"
    assert "weights[0, 2]" in opened.locator("#head-note").text_content()
    opened.click("#view [data-value=matrix]")
    canvas = opened.locator("#head canvas")
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 3, "y": 3})
    assert opened.locator("#head .heat-note").text_content().startswith("[CLS] looks at [SEP]:")
    canvas.click(position={"x": 3, "y": box["height"] - 3})
    assert chosen_token(opened) == "[SEP]"
    opened.click("#colouring [data-value=entropy]")
    assert "nats" in opened.locator("#heads-note").text_content()
    hidden = opened.locator("#lens-grid").inner_html()
    opened.click("#lens [data-value=shown]")
    assert opened.locator("#lens-grid").inner_html() != hidden
    opened.locator("#depth").fill("0")
    assert opened.locator("#depth-name").text_content() == "embeddings"


def test_keyboard_reaches_tokens_heads_and_switches(opened: Any) -> None:
    index = "tokenButtons.findIndex(b => b.getAttribute('aria-pressed') === 'true')"
    start = opened.evaluate(index)
    opened.keyboard.press("ArrowRight")
    assert opened.evaluate(index) == start + 1
    opened.keyboard.press("ArrowLeft")
    opened.keyboard.press("ArrowLeft")
    assert opened.evaluate(index) == start - 1
    opened.locator("#heads [aria-selected=true]").focus()
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("ArrowRight")
    assert opened.locator("#head-title").text_content() == "Layer 1, head 2"
    assert opened.evaluate("document.activeElement.title") == "layer 1, head 2"
    opened.keyboard.press("l")
    assert opened.locator("#head canvas").is_visible()


def test_light_and_dark_follow_the_system_and_the_switch(opened: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(ground)
    assert dark != light
    opened.click("#theme")
    assert opened.evaluate(ground) == light
    opened.keyboard.press("t")
    assert opened.evaluate(ground) == dark


@pytest.mark.parametrize("width", [390, 700, 1400])
def test_page_is_no_wider_than_the_window(opened: Any, width: int) -> None:
    opened.set_viewport_size({"width": width, "height": 800})
    opened.wait_for_timeout(100)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


def test_values_arrive_as_python_packed_them(
    opened: Any, model: BertForPreTraining, tokenizer: Tokenizer
) -> None:
    from bert_scratch.inference.attention_maps import attention_maps

    maps = attention_maps(model, tokenizer, TEXT, "a </script> house")
    seen = opened.evaluate("[0, 1, 2, 3].map(i => attention.at(1, 2, i, 5))")
    assert seen == pytest.approx(maps.weights[1, 2, :4, 5].tolist(), abs=2e-5)


def test_page_of_a_base_model_is_small_and_opens_at_once(
    browser: Any, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=48,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=48,
    )
    text = " ".join(["the cat sees a dog in a garden ."] * 3 + ["the [MASK] ."])
    values = explanation(BertForPreTraining(config), tokenizer, text, None, num_steps=1)
    assert len(values["tokens"]) == 32
    path = tmp_path / "base.html"
    path.write_text(explain_page("base", values))
    assert path.stat().st_size < 2_000_000
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(path.as_uri())
    page.locator("#lens-grid td").first.wait_for(state="attached")
    # Script, layout and style in this thread; a wall clock would measure the machine's other work.
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.reload()
    page.locator("#lens-grid td").first.wait_for(state="attached")
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    page.close()
    assert metrics["TaskDuration"] < 2

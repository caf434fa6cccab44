"""Pins that the page of `report` works in a browser: drawn, read, switched, inert, alone.
Needs chromium; slow. Run alone: `pytest -m slow tests/views/test_report_browser.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_scratch.views.report import report_page
from bert_scratch.views.report_data import read_runs

pytestmark = pytest.mark.slow

NAMES = ("</script><img src=x onerror=alert(2)>", "second")


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for number in range(2):
        (folder / str(number)).mkdir()
        (folder / str(number) / "pretrain_config.json").write_text('{"num_train_steps": 40}')
        made = [
            {
                "step": step, "split": split, "mlm_loss": 9.0 / (step + number + 1),
                "tokens": 64 * step, "elapsed_s": 0.5 * step, "grad_norm/layers.0.attention": 0.5,
                "grad_norm/embeddings": 0.25 * step + 1,
            }
            for step in range(0, 41, 4)
            for split in ("train", "eval")
        ]  # fmt: skip
        log = "".join(json.dumps(line) + "\n" for line in made)
        (folder / str(number) / "metrics.jsonl").write_text(log)
    runs = read_runs([folder / "0", folder / "1"])
    named = [type(run)(**(vars(run) | {"name": n})) for run, n in zip(runs, NAMES, strict=True)]
    (folder / "page.html").write_text(report_page(named))
    return folder / "page.html"


@pytest.fixture(params=[1200, 390])
def opened(browser: Any, page_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a browser; any error, dialog or request but its own fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url))
    page.goto(page_path.as_uri())
    page.wait_for_selector("polyline")
    yield page
    assert wrong == [page_path.as_uri()]
    context.close()


def test_everything_is_drawn_and_nothing_wider_than_the_window(opened: Any) -> None:
    assert opened.locator("[data-chart] svg[role=img]").count() == 3
    first = opened.locator("[data-chart]").first
    assert first.locator("polyline").count() == 4
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.locator("#bar button").all_inner_texts()[3:] == list(NAMES)


def test_run_is_hidden_and_shown_again(opened: Any) -> None:
    first = opened.locator("[data-chart]").first
    opened.get_by_role("button", name="second").click()
    assert first.locator("polyline").count() == 2
    opened.get_by_role("button", name="second").click()
    assert first.locator("polyline").count() == 4


def test_curves_can_be_drawn_over_time(opened: Any) -> None:
    opened.get_by_role("button", name="time").click()
    texts = opened.locator("[data-chart]").first.locator("text").all_text_contents()
    assert "0 s" in texts and "20 s" in texts


def test_pointer_and_arrow_keys_read_a_curve(opened: Any) -> None:
    chart = opened.locator(".chart").first
    readout = opened.locator(".readout").first
    assert readout.inner_text().startswith("at last")
    chart.focus()
    opened.keyboard.press("Home")
    assert "step 0" in readout.inner_text() and "9.000" in readout.inner_text()
    opened.keyboard.press("ArrowRight")
    assert "step 4" in readout.inner_text() and "1.800" in readout.inner_text()
    chart.hover()
    assert readout.inner_text().splitlines()[0] in ("step 16", "step 20")

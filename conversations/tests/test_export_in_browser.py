"""Taking a conversation along, in a real browser."""

import json
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import expect

from conversations.tests.test_every_page_in_browser import axe

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def export(page, name: str):
    page.locator(".bar").get_by_label("More about this conversation").click()
    with page.expect_download() as download:
        page.get_by_role("link", name=name).click()
    return download.value


def test_its_menu_gives_a_file_and_the_page_goes_on(visitor):
    page = visitor.finished(visitor.ask("Should we?"))
    markdown = export(page, "Export as Markdown")
    assert markdown.suggested_filename.endswith(".md")
    assert "> Should we?" in Path(markdown.path()).read_text(encoding="utf-8")
    expect(page.get_by_role("link", name="Export as Markdown")).to_be_hidden()
    told = json.loads(Path(export(page, "Export as JSON").path()).read_text(encoding="utf-8"))
    assert [turn["question"] for turn in told["turns"]] == ["Should we?"]
    visitor.finished(visitor.ask("And then?", page), turns=2)


def test_its_menu_works_by_keyboard_and_without_javascript(visitor):
    address = visitor.finished(visitor.ask()).url
    page = visitor.open(visitor.look(java_script_enabled=False))
    page.goto(address)
    page.get_by_label("More about this conversation").press("Enter")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON").press("Enter")
    assert download.value.suggested_filename.endswith(".json")


def test_its_menu_fits_and_axe_objects_to_nothing(visitor):
    address = visitor.finished(visitor.ask()).url
    objections = []
    for theme, width in product(("light", "dark"), (1440, 390, 320)):
        page = visitor.open(visitor.look(color_scheme=theme, viewport={"width": width, "height": 700}))
        page.goto(address)
        page.get_by_label("More about this conversation").click()
        box = page.locator(".more .panel").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        objections += axe(page)
    assert not objections

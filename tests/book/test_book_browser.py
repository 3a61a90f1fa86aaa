"""The built book in a real browser: run `make book` first. Outside addresses are blocked."""

import functools
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml
from browsing import HTML, needs_book, served, until, visit, width
from PIL import Image

ROOT = Path(__file__).parents[2]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [chapter for part in TOC["parts"] for chapter in part["chapters"]]
PAGES = [TOC["root"]]
for entry in CHAPTERS:
    PAGES += [entry["file"], *(section["file"] for section in entry.get("sections", []))]
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.ipynb").is_file()]
CHAPTER = "book/02_grouping"
WITHOUT_FORMULAS = {TOC["root"], "book/10_your_project", "book/appendix_runs"}


class Addresses(HTMLParser):
    """What a page links to, shows and can be linked at."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.ids = [], set()
        self.feed((HTML / page).read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes.get("id"), attributes.get("name")}
        self.targets += filter(None, (attributes.get("href"), attributes.get("src")))


@needs_book
@pytest.mark.parametrize("page", PAGES)
def test_internal_links_and_images_lead_somewhere(page):
    broken = []
    for target in Addresses(f"{page}.html").targets:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        file = (HTML / page).parent / unquote(parts.path) if parts.path else HTML / f"{page}.html"
        file = file.resolve()
        if not file.exists():
            broken.append(target)
        elif parts.fragment and file.suffix == ".html":
            home = file.relative_to(HTML.resolve()).as_posix()
            if unquote(parts.fragment) not in ids_of(home):
                broken.append(target)
    assert broken == []


@functools.lru_cache
def ids_of(page):
    return Addresses(page).ids


@needs_book
def test_every_page_is_built_and_there_are_no_others():
    built = {file.relative_to(HTML).with_suffix("").as_posix() for file in HTML.rglob("*.html")}
    pages = {page for page in built if page.startswith("book/")}
    assert len(PAGES) == len(set(PAGES)) >= 20
    assert pages == set(PAGES)


@needs_book
@pytest.mark.parametrize("page", PAGES)
def test_headings_skip_no_level(page):
    article = (HTML / f"{page}.html").read_text(encoding="utf-8").split("<article", 1)[1]
    levels = [int(n) for n in re.findall(r"<h([1-6])[ >]", article.split("</article>")[0])]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


@needs_book
def test_signatures_name_array_like_and_not_what_it_stands_for():
    pages = [(HTML / f"{page}.html").read_text(encoding="utf-8") for page in PAGES]
    assert any("ArrayLike" in page for page in pages)
    assert not any("_NestedSequence" in page for page in pages)


@needs_book
def test_the_built_book_stays_small():
    assert sum(file.stat().st_size for file in HTML.rglob("*")) < 25_000_000


# In the browser


@pytest.fixture(scope="module")
def address():
    with served(HTML) as found:
        yield found


@needs_book
@pytest.mark.parametrize("page", PAGES)
def test_page_opens_without_console_error_and_without_scrolling_sideways(browser, address, page):
    width(browser, 1280)
    browser.get_log("browser")  # those of the page before
    visit(browser, f"{address}/{page}.html")
    errors = [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] == "SEVERE" and not re.match(r"https://", entry["message"])
    ]
    assert errors == []
    images = "[...document.querySelectorAll('article img')]"
    browser.execute_script(f"{images}.forEach(i => i.loading = 'eager')")
    until(browser, f"{images}.every(i => i.complete)")
    assert browser.execute_script(f"return {images}.filter(i => !i.naturalWidth).length") == 0
    assert browser.execute_script(f"return {images}.filter(i => !i.alt).length") == 0
    for pixels in (1280, 390):
        width(browser, pixels)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= pixels


@needs_book
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_every_formula_is_typeset_without_a_network(browser, address, page):
    width(browser, 1280)
    visit(browser, f"{address}/{page}.html")
    formulas = "[...document.querySelectorAll('article .math')]"
    n_formulas = browser.execute_script(f"return {formulas}.length")
    assert n_formulas > 0 or page in WITHOUT_FORMULAS
    if n_formulas:
        until(browser, "document.querySelectorAll('article mjx-container').length")
        until(browser, f"{formulas}.every(f => f.querySelector('mjx-container'))")
        assert browser.execute_script("return document.querySelectorAll('mjx-merror').length") == 0


@needs_book
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_every_figure_is_seen_and_on_dark_pages_charts_alone_are_inverted(browser, address, page):
    cells = json.loads((ROOT / f"{page}.ipynb").read_text(encoding="utf-8"))["cells"]
    pictures = []  # whether each figure of the page is a picture, in their order
    for cell in cells:
        text = "".join(cell["source"])
        if "figure" in cell["metadata"].get("mystnb", {}):
            pictures.append("picture" in cell["metadata"].get("tags", []))
        elif "{figure}" in text:
            pictures.append(":figclass: picture" in text)
    width(browser, 1280)
    visit(browser, f"{address}/{page}.html")
    for theme in ("light", "dark"):
        browser.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        figures = browser.execute_script(
            "return [...document.querySelectorAll('article figure img')].map(i => "
            "[i.getBoundingClientRect().width, getComputedStyle(i).visibility, "
            "getComputedStyle(i).backgroundColor, getComputedStyle(i).filter])"
        )
        assert len(figures) == len(pictures)
        for (wide, visibility, ground, painted), picture in zip(figures, pictures, strict=True):
            assert wide > 150
            assert visibility == "visible"
            assert ("invert" in painted) == (theme == "dark" and not picture)
            assert theme == "light" or ground == "rgb(255, 255, 255)"  # before the filter


@needs_book
@pytest.mark.parametrize("page", PAGES)
def test_no_line_of_code_is_cut_at_1280_pixels(browser, address, page):
    width(browser, 1280)
    visit(browser, f"{address}/{page}.html")
    cut = browser.execute_script(
        "return [...document.querySelectorAll('article pre')]"
        ".filter(p => p.clientWidth && p.scrollWidth > p.clientWidth + 1)"
        ".map(p => p.innerText.slice(0, 60))"
    )
    assert cut == []


@needs_book
@pytest.mark.parametrize(("name", "is_picture"), [("embedding", False), ("orders", True)])
def test_a_tap_on_a_figure_shows_it_large_and_as_dark_as_it_was(browser, address, name, is_picture):
    width(browser, 390)
    visit(browser, f"{address}/{CHAPTER}.html")
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    small, painted = browser.execute_script(
        f"const i = document.querySelector('#fig-02-{name} img'); i.click();"
        "return [i.getBoundingClientRect().width, getComputedStyle(i).filter]"
    )
    shown = "document.querySelector('dialog.zoomed[open] img')"
    until(browser, f"{shown} !== null")
    assert browser.execute_script(f"return {shown}.getBoundingClientRect().width") > 1.5 * small
    assert ("invert" in painted) != is_picture
    assert browser.execute_script(f"return getComputedStyle({shown}).filter") == painted
    browser.execute_script(f"{shown}.click()")
    until(browser, f"{shown} === null")


@needs_book
@pytest.mark.parametrize("page", PAGES)
def test_no_table_but_the_wide_ones_scrolls_sideways_on_a_phone(browser, address, page):
    width(browser, 390)
    visit(browser, f"{address}/{page}.html")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    cut = browser.execute_script(
        "return [...document.querySelectorAll('article table:not(.wide *)')]"
        ".filter(t => t.scrollWidth > t.clientWidth + 1)"
        ".map(t => [t.scrollWidth, t.clientWidth, t.innerText.slice(0, 60)])"
    )
    assert cut == []


@needs_book
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_no_formula_is_cut_on_a_phone(browser, address, page):
    width(browser, 390)
    visit(browser, f"{address}/{page}.html")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    formulas = "[...document.querySelectorAll('article .math')]"
    until(browser, f"{formulas}.every(f => f.querySelector('mjx-container'))")
    cut = browser.execute_script(
        f"return {formulas}.map(f => [f, f.querySelector('mjx-math')])"
        ".map(([f, m]) => [f.textContent, m.getBoundingClientRect(), f.getBoundingClientRect()])"
        ".filter(([, m, f]) => m.right > f.right + 1 || m.right > innerWidth)"
        ".map(([text, m, f]) => [text.slice(0, 40), m.right, f.right])"
    )
    assert cut == []


@needs_book
def test_names_of_index_levels_stand_in_the_row_of_the_columns(browser, address):
    width(browser, 1280)
    visit(browser, f"{address}/{CHAPTER}.html")
    heads = browser.execute_script(
        "return [...document.querySelectorAll('article table.dataframe')]"
        ".map(t => [...t.tHead.rows].map(r => r.innerText.trim().split(/\\s+/)))"
    )
    assert [["size", "members"]] in heads


@needs_book
def test_a_comma_stays_beside_its_formula(browser, address):
    width(browser, 390)
    visit(browser, f"{address}/{CHAPTER}.html")
    kept = browser.execute_script(
        "return [...document.querySelectorAll('article .formula')].map(k => "
        "[k.lastChild.textContent, getComputedStyle(k).whiteSpace])"
    )
    assert [",", "nowrap"] in kept


@needs_book
def test_search_finds_affinity(browser, address):
    width(browser, 1280)
    visit(browser, f"{address}/search.html?q=affinity")
    found = until(
        browser, "[...document.querySelectorAll('#search-results li a')].map(a => a.href)"
    )
    assert any("02_grouping" in link for link in found)


@needs_book
def test_copy_button_copies_the_code_of_its_cell(browser, address):
    width(browser, 1280)
    visit(browser, f"{address}/{CHAPTER}.html")
    buttons = "document.querySelectorAll('div.cell_input button.copybtn')"
    n_buttons = until(browser, f"{buttons}.length")
    assert n_buttons == browser.execute_script(
        "return document.querySelectorAll('div.cell_input pre').length"
    )
    # what the button hands to the clipboard, where headless browsers have none
    text = browser.execute_script(
        f"const b = {buttons}[1]; const seen = [];"
        "document.execCommand = () => { seen.push(getSelection().toString()); return true };"
        "b.click(); return seen[0] || null"
    )
    code = browser.execute_script(
        "return document.querySelectorAll('div.cell_input pre')[1].innerText"
    )
    assert text
    assert text.split() == code.split()


@needs_book
def test_folded_cells_and_solutions_open_with_a_click(browser, address):
    width(browser, 1280)
    visit(browser, f"{address}/book/03_prompts.html")
    for kind in ("details.hide", "details.sd-dropdown"):
        assert until(browser, f"document.querySelectorAll('{kind}').length") > 0
        first = f"document.querySelector('{kind}')"
        assert browser.execute_script(f"return {first}.open") is False
        browser.execute_script(f"{first}.querySelector('summary').click()")
        assert until(browser, f"{first}.open")


@needs_book
def test_theme_button_turns_the_page_and_its_charts_dark(browser, address):
    width(browser, 1280)
    visit(browser, f"{address}/{CHAPTER}.html")
    root = "document.documentElement"
    for _ in range(3):  # auto, light, dark, in a circle
        if browser.execute_script(f"return {root}.dataset.theme") == "dark":
            break
        browser.execute_script("document.querySelector('button.theme-switch-button').click()")
    assert browser.execute_script(f"return {root}.dataset.theme") == "dark"
    page = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", page)[:3])) < 80
    chart, picture = (
        Image.open(io.BytesIO(figure.screenshot_as_png)).convert("L")
        for figure in browser.find_elements("css selector", "article figure img")[:2]
    )
    assert np.median(chart) < 50 < 150 < np.quantile(chart, 0.999)
    assert np.median(picture) > 50

"""The page in a real browser: nothing on the console, every chart drawn, tables that sort, both themes, a phone."""

import pytest
from chromium import CHROMIUM, Chromium

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
SHOWN = "[...document.querySelectorAll('.route')].filter(each => !each.hidden).map(each => each.id)"


@pytest.fixture(scope="module")
def page(report):
    return report / "index.html"


@pytest.fixture(scope="module")
def browser():
    with Chromium() as opened:
        yield opened


def test_every_chart_is_drawn_and_the_console_stays_empty(browser, page):
    browser.open(page)
    found = browser.run("tunetrade.drawAll()")
    assert found["failed"] == [] and found["drawn"] == found["charts"] > 20
    assert browser.run("[...document.querySelectorAll('.plot')].every(box => box.querySelector('.main-svg'))")
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    assert browser.faults == []


def test_when_opened_then_only_what_is_near_is_drawn(browser, page):
    browser.open(page)
    assert browser.run(SHOWN) == ["overview"]
    hidden = "[...document.querySelectorAll('.route[hidden] .plot')]"
    assert browser.run(f"{hidden}.length > 10 && {hidden}.every(box => !box.dataset.state)")


def test_links_lead_to_a_method_and_its_address_opens_it(browser, page):
    browser.open(page)
    browser.run("document.querySelector('nav a[href=\"#method-lora\"]').click(); new Promise(f => setTimeout(f, 100))")
    assert browser.run(SHOWN) == ["method-lora"]
    assert browser.run("document.querySelector('nav a[aria-current]').textContent") == "lora"
    browser.open(page, "#series-NZDUSD-D1")
    assert browser.run(SHOWN) == ["series-NZDUSD-D1"]


def column(browser, index=1):
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    return browser.run(f"{rows}.map(row => row.cells[{index}].dataset.v ?? null)")


def test_tables_sort_by_click_and_by_keyboard_with_gaps_last(browser, page):
    browser.open(page)
    head = "document.querySelector('table.sortable').tHead.rows[0].cells[1]"
    before = column(browser)
    browser.run(f"{head}.querySelector('button').click()")
    known = [float(value) for value in column(browser) if value is not None]
    assert known == sorted(known) and browser.run(f"{head}.ariaSort") == "ascending"
    assert None not in column(browser)[: len(known)] and len(known) > 1
    browser.run(f"{head}.querySelector('button').focus()")
    browser.key("Enter")
    again = [float(value) for value in column(browser) if value is not None]
    assert again == sorted(known, reverse=True) and browser.run(f"{head}.ariaSort") == "descending"
    assert None not in column(browser)[: len(known)]
    assert sorted(map(str, before)) == sorted(map(str, column(browser)))


def test_the_theme_is_the_systems_until_a_button_says_otherwise(browser, page):
    paper = "getComputedStyle(document.body).backgroundColor"
    browser.theme(dark=True)
    try:
        browser.open(page)
        dark = browser.run(paper)
        browser.run(
            "(async () => { const box = document.querySelector('.plot'); box.scrollIntoView();"
            " while (box.dataset.state !== 'drawn') await new Promise(f => setTimeout(f, 20)); })()"
        )
        ink = "document.querySelector('.plot').layout.font.color"
        before = browser.run(ink)
        browser.run("document.getElementById('theme').click(); localStorage.clear()")
        assert browser.run(paper) == "rgb(255, 255, 255)" != dark
        assert browser.run(ink) != before
    finally:
        browser.theme(dark=False)


def test_a_phone_scrolls_down_only(page):
    with Chromium(width=390, height=844, mobile=True) as phone:
        phone.open(page)
        for route in ("overview", "method-lora", "series-EURUSD-D1", "background"):
            phone.run(f"location.hash = '#{route}'; new Promise(f => setTimeout(f, 100))")
            assert phone.run("document.documentElement.scrollWidth") <= 390, route
        assert phone.faults == []

"""The report in a browser: no errors, no sideways scroll, keys reach everything, paper is light.

Its pictures in the documentation are taken of a finished run by the same means:

    OVSEG_REPORT=runs/storybook/report/DIGEST/shard-00000/report.html OVSEG_PICTURES=docs \
        python -m pytest tests/report/test_report_browser.py -k documentation
"""

import os
from pathlib import Path

import pytest

from ovseg.report.stage import report_file

THEMES = ("light", "dark")
WIDTHS = (390, 1280)

CONTRAST = """
(selector) => {
  const channel = (value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  };
  const luminance = ([r, g, b]) =>
    0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const background = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = numbers(getComputedStyle(each).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].map((element) => {
    const ink = luminance(numbers(getComputedStyle(element).color));
    const paper = luminance(background(element));
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}
"""


@pytest.fixture(scope="module")
def address(report_run):
    return report_file(report_run.report()).as_uri()


@pytest.fixture
def opened(browser, address):
    """Open the report at a width and in a theme; whatever the console says fails the test."""
    contexts, said = [], []

    def open_report(width=1280, theme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
        page.goto(address)
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert not said


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_can_be_read(opened, width, theme):
    page = opened(width, theme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    text = "p, h1, h2, h3, td, th, dt, dd, figcaption, .verdict, .measures, a, button, mark, small"
    assert min(page.evaluate(CONTRAST, text)) >= 4.5
    labels = page.evaluate(
        "[...document.querySelectorAll('svg[role=img], .missing')].map((each) =>"
        " each.getAttribute('aria-label'))"
    )
    assert labels and all(labels)
    assert page.evaluate("[...document.images].every((each) => each.alt)")
    hidden = page.evaluate(
        "[...document.querySelectorAll('.plot > svg text')].filter((each) =>"
        " each.getBBox().width === 0).length"
    )
    assert hidden == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_tab_reaches_the_controls(opened, width):
    page = opened(width)
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "[document.activeElement.id, document.activeElement.dataset.step || '',"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(found)
    ids = [each[0] for each in reached]
    assert page.evaluate("document.querySelector('.skip') !== null")
    assert reached[0][2] != "none"  # the skip link, which shows itself when it is reached
    assert ids.index("theme") < ids.index("noun")
    assert {"-1", "1"} <= {each[1] for each in reached}


def test_the_skip_link_leads_past_the_navigation(opened):
    page = opened()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def shown(page):
    return page.evaluate(
        "[...document.querySelectorAll('.noun')].filter((each) => each.offsetHeight > 0)"
        ".map((each) => each.querySelector('summary span').textContent)"
    )


def test_the_gallery_by_keyboard(opened):
    page = opened()
    nouns = page.eval_on_selector_all(
        "#noun option", "all => all.map((each) => each.textContent.replace(/ \\(.*/, ''))"
    )
    assert len(nouns) >= 3 and shown(page) == nouns[:1]
    page.focus("#noun")
    page.keyboard.press("ArrowDown")
    assert shown(page) == nouns[1:2]
    page.focus("[data-step='1']")
    page.keyboard.press("Enter")
    assert shown(page) == nouns[2:3]
    assert page.inner_text("#gallery-status").startswith(nouns[2])
    page.focus("[data-step='-1']")
    for _ in range(3):
        page.keyboard.press("Space")
    assert shown(page) == nouns[-1:]  # before the first comes the last
    page.focus("input[name=verdict]")
    page.keyboard.press("ArrowRight")
    visible = page.evaluate(
        "[...document.querySelectorAll('#gallery .cards > li')]"
        ".filter((each) => each.offsetHeight > 0).map((each) => each.className)"
    )
    assert set(visible) <= {"right"}


def test_the_theme_button(opened):
    page = opened(theme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.focus("#theme")
    page.keyboard.press("Enter")
    dark = page.evaluate(paper)
    assert dark != light and page.get_attribute("#theme", "aria-pressed") == "true"
    page.reload()
    assert page.evaluate(paper) == dark
    assert page.get_attribute("html", "data-theme") == "dark"


@pytest.mark.parametrize("theme", THEMES)
def test_paper_is_light_and_shows_what_matters(opened, theme):
    page = opened(theme=theme)
    if theme == "dark":
        page.click("#theme")
        page.click("#theme")
        assert page.get_attribute("html", "data-theme") == "dark"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme=theme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert min(page.evaluate(CONTRAST, "p, td, figcaption, h2")) >= 4.5
    assert not page.is_visible("nav") and not page.is_visible(".controls")
    assert len(shown(page)) >= 2
    assert page.evaluate("getComputedStyle(document.querySelector('.plot')).breakInside") == "avoid"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert len(shown(page)) == 1


def test_without_javascript(opened):
    page = opened(java_script_enabled=False)
    assert not page.is_visible(".controls") and not page.is_visible("#theme")
    assert page.locator(".noun[open] .cards").count() >= 3
    assert page.locator(".noun[open] .cards").first.is_visible()


def test_hostile_captions_stay_text(opened):
    page = opened()
    assert page.title() == "Preset tiny on toy"
    assert page.locator("main img").count() == 0


@pytest.mark.skipif("OVSEG_REPORT" not in os.environ, reason="takes the documentation's pictures")
def test_pictures_for_the_documentation(browser):
    folder = Path(os.environ.get("OVSEG_PICTURES", "docs"))
    for theme in THEMES:
        context = browser.new_context(
            viewport={"width": 1280, "height": 1500}, color_scheme=theme, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(Path(os.environ["OVSEG_REPORT"]).resolve().as_uri())
        target = folder / f"report-{theme}.png"
        page.screenshot(path=target)
        context.close()
        assert target.stat().st_size > 20_000

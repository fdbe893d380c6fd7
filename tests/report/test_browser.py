"""The report in a real Chromium: nothing fails, nothing is fetched, everything is to be seen, and the search finds.

Needs Debian's chromium (scripts/setup --browser) and the package playwright, which drives it and brings no other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pretext.report.page import write_report
from pretext.run.folder import Run
from tests.report.conftest import HOSTILE

_SECTIONS = [
    "guarantee", "budget", "quality", "texts", "votes", "movement", "selection", "dropped", "cost", "again",
]  # fmt: skip
_QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(_CHROMIUM is None, reason="chromium is not installed (scripts/setup --browser)"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One Chromium for all tests, with an empty profile."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    profile = tmp_path_factory.mktemp("profile")
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(profile, executable_path=_CHROMIUM, args=_QUIET)
        yield context
        context.close()


class LoadedPage:
    """A page in the browser, with its console lines and its requests."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page()
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def rows(self) -> list[str]:
        """Return the texts that are shown."""
        return list(self.page.locator("#rows tr:visible td.text").all_inner_texts())

    def sideways(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture
def report(browser: Any, finished: Callable[..., Run], tmp_path: Path) -> Iterator[LoadedPage]:
    """The report of a run with hostile texts in it."""
    write_report(finished("expansion.texts=60", hostile=True).folder, tmp_path / "report.html")
    page = LoadedPage(browser, tmp_path / "report.html")
    yield page
    page.page.close()


def _contrast(page: Any, selector: str) -> float:
    """WCAG contrast of an element's text with the page."""
    channels = page.evaluate(
        """(selector) => [
            getComputedStyle(document.querySelector(selector)).color,
            getComputedStyle(document.body).backgroundColor,
        ].map((color) => color.match(/[\\d.]+/g).map(Number))""",
        selector,
    )

    def luminance(channel: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channel[:3])]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted(luminance(channel) for channel in channels)
    return (light + 0.05) / (dark + 0.05)


def test_nothing_fails_and_nothing_leaves_the_file(report: LoadedPage, tmp_path: Path) -> None:
    assert report.console == []
    assert report.requests == [(tmp_path / "report.html").as_uri()]
    assert report.page.title() == "private: report of a private synthesis"  # no hostile text changed it
    assert report.page.locator("img").count() == 0


def test_the_policy_stops_what_escaping_would_let_through(browser: Any, report: LoadedPage, tmp_path: Path) -> None:
    """The twin of the test above: the same file with a text that is not escaped; neither script nor image is let in."""
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    attack = "<script>document.title = 'owned'</script><img src=http://example.invalid/x>"
    (tmp_path / "broken.html").write_text(source.replace("<main>", f"<main>{attack}"), encoding="utf-8")
    broken = LoadedPage(browser, tmp_path / "broken.html")
    assert broken.page.title() == "private: report of a private synthesis"
    assert sum("Content Security Policy" in line for line in broken.console) == 2
    broken.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_every_section_is_to_be_seen(report: LoadedPage, scheme: str, width: int) -> None:
    report.page.emulate_media(color_scheme=scheme)
    report.page.set_viewport_size({"width": width, "height": 800})
    for section in _SECTIONS:
        assert report.page.locator(f"#{section} h2").is_visible()
    for chart in report.page.locator("#votes figure svg, #movement .panels svg").all():
        box = chart.bounding_box()
        assert box["width"] > 100 and box["height"] > 100
    assert report.sideways() <= 0
    for selector in ("body", ".kicker", "nav a", "th", "summary"):
        assert _contrast(report.page, selector) >= 4.5
    paper = report.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(20, 24, 29)") == (scheme == "dark")


def test_the_search_filters_to_the_right_rows(report: LoadedPage) -> None:
    everything = report.rows()
    assert len(everything) > 60
    report.page.fill("#search", "KERNEL  boot")
    expected = [text for text in everything if "kernel" in text and "boot" in text]
    assert 0 < len(expected) < len(everything)
    assert report.rows() == expected
    assert report.page.inner_text("#found") == f"{len(expected)} of {len(everything)} shown"
    report.page.fill("#search", HOSTILE)
    words = HOSTILE.lower().split()  # a scripted variation may hold them all in another order
    assert report.rows() == [text for text in everything if all(word in text.lower() for word in words)]
    assert any(HOSTILE in text for text in report.rows())
    report.page.fill("#search", "")
    report.page.select_option("#kind", "synthetic")
    assert len(report.rows()) == 60
    report.page.fill("#search", "no such words at all")
    assert report.rows() == []


def test_without_its_script_all_rows_are_there(browser: Any, report: LoadedPage, tmp_path: Path) -> None:
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "bare.html").write_text(source.split("<script>")[0], encoding="utf-8")
    bare = LoadedPage(browser, tmp_path / "bare.html")
    assert bare.rows() == report.rows()
    assert not bare.page.locator("#controls").is_visible()
    bare.page.close()


def test_paper(report: LoadedPage) -> None:
    """Print is light, unfolded, without controls; 40 texts, or all that were searched for."""
    report.page.emulate_media(media="print", color_scheme="dark")
    report.page.set_viewport_size({"width": 720, "height": 1000})
    assert report.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not report.page.locator("#controls").is_visible()
    assert len(report.rows()) == 40
    assert report.sideways() <= 0
    report.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(part.is_visible() for part in report.page.locator("details table, details pre").all())
    report.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not report.page.locator("pre.settings").is_visible()
    report.page.emulate_media(media="screen")
    report.page.select_option("#kind", "synthetic")
    report.page.emulate_media(media="print")
    assert len(report.rows()) == 60
    assert len(report.page.pdf(format="A4")) > 10_000

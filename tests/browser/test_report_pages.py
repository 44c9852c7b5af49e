"""The report's pages in headless Chromium: accessible, without errors, usable by keyboard, printable."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from scipy import stats
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import PHONE, WIDE, Page
from tests.conftest import TOY
from tests.runner.stores import build

KINDS = ("index", "paper", "run", "runs", "compare", "environment")
LOOKS = {"light": (WIDE, "light"), "dark": (WIDE, "dark"), "phone": (PHONE, "light"), "phone-dark": (PHONE, "dark")}


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a reproduced paper, a method's plot and a failed run."""
    from runner import cli, registry

    home = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_INCLUDE_PATH", "")
        registry.include(str(TOY))
        store = f"home={home}"
        assert cli.status(["reproduce", "paper=toy", "progress=false", store]) == 0
        patch.setenv("TOY_FAULT", "error:1")
        failing = ["method=toy", "dataset=toy_data", "model=none", "progress=false", "method.lr=0.5", store]
        assert cli.status(failing) == 1
        for folder in (home / "artifacts" / "runner").glob("*/artifacts"):
            drawing = (
                '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><circle r="20" cx="40" cy="20"/></svg>'
            )
            (folder / "drawing.svg").write_text(drawing)
        assert cli.status(["report", str(home / "site"), "paper=toy", store]) == 0
        registry.conf_dirs.cache_clear()
    return home / "site"


@pytest.fixture
def page(browser: webdriver.Chrome, site: Path) -> Page:
    """The browser, on this site."""
    return Page(browser, site)


def name_of(site: Path, kind: str) -> str:
    """A page of this kind."""
    if kind in ("index", "runs", "compare"):
        return f"{kind}.html"
    if kind == "run":
        data = json.loads((site / "papers" / "toy-cpu.json").read_text())
        return f"runs/{data['cells'][0]['runs'][0]}.html"
    folder = {"paper": "papers", "environment": "environments"}[kind]
    return f"{folder}/{next((site / folder).glob('*.html')).name}"


def drawn(page: Page) -> None:
    """Wait until every plot of the page is there."""
    page.run("dispatchEvent(new Event('beforeprint'))")
    done = "return [...document.querySelectorAll('.canvas')].every((one) => one.querySelector('.main-svg'))"
    WebDriverWait(page.browser, 20).until(lambda _: page.run(done))


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_violation_no_error_no_overflow(
    page: Page, site: Path, axe: str, screenshots: Path, kind: str, look: str
) -> None:
    size, scheme = LOOKS[look]
    page.open(name_of(site, kind), size, scheme)
    drawn(page)
    for details in page.browser.find_elements(By.CSS_SELECTOR, "details"):
        page.run("arguments[0].open = true", details)
    page.picture(screenshots / f"{kind}-{look}.png")
    assert page.browser.get_log("browser") == []
    page.run(axe)
    found = page.browser.execute_async_script(
        "const done = arguments[0], runOnly = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'];"
        "axe.run(document, {preload: false, runOnly})"
        ".then((r) => done([r.violations, r.passes.length]))"
    )
    violations, passes = found
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == []
    assert passes > 10
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_the_index_opens_at_once(page: Page, tmp_path: Path) -> None:
    page.open("index.html")
    moments = []
    for _ in range(5):
        page.open("index.html")
        WebDriverWait(page.browser, 5).until(
            lambda _: page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd > 0")
        )
        moments.append(page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
    assert min(moments) < 1000  # ms
    resources = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert all(name.startswith(("file:", "data:")) for name in resources)
    assert not [name for name in resources if "plotly" in name]


def test_the_keyboard_reaches_everything(page: Page, site: Path) -> None:
    page.open(name_of(site, "paper"))
    keys = ActionChains(page.browser)
    keys.send_keys(Keys.TAB).perform()
    assert page.browser.switch_to.active_element.text == "Skip to content"
    keys.send_keys(Keys.ENTER).perform()
    assert page.run("return document.activeElement.id") == "content"
    button = page.browser.find_element(By.CSS_SELECTOR, "button.cell")
    tip = page.browser.find_element(By.ID, button.get_attribute("popovertarget"))
    assert not tip.is_displayed()
    page.run("arguments[0].focus()", button)
    assert tip.is_displayed()
    assert "n = 3 of 3" in tip.text
    keys.send_keys(Keys.ENTER).perform()  # pins it: its links are within reach
    assert tip.is_displayed()
    keys.send_keys(Keys.TAB).perform()
    assert page.run("return arguments[0].contains(document.activeElement)", tip)
    assert "/runs/" in page.run("return document.activeElement.href")
    keys.send_keys(Keys.ESCAPE).perform()
    assert not tip.is_displayed()
    assert page.run("return document.activeElement === arguments[0]", button)


def test_tooltips_by_hover_and_by_tap(page: Page, site: Path) -> None:
    page.open(name_of(site, "paper"))
    one, other = page.browser.find_elements(By.CSS_SELECTOR, "button.cell")[:2]
    tips = [page.browser.find_element(By.ID, button.get_attribute("popovertarget")) for button in (one, other)]
    ActionChains(page.browser).move_to_element(one).perform()
    assert [tip.is_displayed() for tip in tips] == [True, False]
    ActionChains(page.browser).move_to_element(other).perform()
    assert [tip.is_displayed() for tip in tips] == [False, True]
    other.click()
    ActionChains(page.browser).move_to_element(one).perform()
    assert [tip.is_displayed() for tip in tips] == [False, True]  # pinned
    page.open(name_of(site, "paper"), PHONE)
    button = page.browser.find_element(By.CSS_SELECTOR, "button.cell")
    tip = page.browser.find_element(By.ID, button.get_attribute("popovertarget"))
    button.click()
    box = tip.rect
    assert tip.is_displayed()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE[0]


def test_plots_follow_their_selectors_and_have_a_table(page: Page, site: Path) -> None:
    page.open(name_of(site, "paper"))
    drawn(page)
    plot = page.browser.find_element(By.CSS_SELECTOR, "figure.plot[data-kind=curves]")
    rows = "return [...arguments[0].querySelectorAll('.figures tbody tr')].map((row) => row.cells[0].textContent)"
    row, metric, _ = plot.find_elements(By.CSS_SELECTOR, "select")
    metric.send_keys("loss")
    assert page.run(rows, plot) == ["short, layer2", "long, layer2"]
    label = plot.find_element(By.CSS_SELECTOR, ".canvas").get_attribute("aria-label")
    assert label.startswith("Line plot over epochs of loss, lr 0.01")
    row.send_keys("lr 0.05")
    assert page.run(rows, plot) == ["short, layer2", "long, layer2", "only, layer2"]
    assert page.run("return arguments[0].querySelectorAll('.scatterlayer .trace').length", plot) >= 3


def test_a_plot_downloads_as_svg(page: Page, site: Path, downloads: Path) -> None:
    page.open(name_of(site, "run"))
    drawn(page)
    page.browser.find_element(By.CSS_SELECTOR, "figure.plot button.svg").click()
    end = time.monotonic() + 20
    while not (found := list(downloads.glob("*.svg"))):
        assert time.monotonic() < end, "no SVG came"
        time.sleep(0.1)
    text = found[0].read_text()
    assert text.startswith("<svg")
    assert "epoch" in text


def test_every_page_prints(page: Page, site: Path, screenshots: Path) -> None:
    for kind in KINDS:
        page.open(name_of(site, kind), scheme="dark")
        pdf = base64.b64decode(page.browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
        assert pdf.startswith(b"%PDF")
        assert len(pdf) > 5000
        (screenshots / f"{kind}.pdf").write_bytes(pdf)


def choose(page: Page, side: str, word: str) -> None:
    search = page.browser.find_element(By.ID, f"search-{side}")
    search.clear()
    search.send_keys(word)
    select = page.browser.find_element(By.ID, f"choice-{side}")
    page.run(
        "const s = arguments[0]; s.value = [...s.options].find((o) => o.text.includes(arguments[1])).value;"
        "s.dispatchEvent(new Event('change'))",
        select,
        word,
    )


def test_two_groups_are_compared_as_scipy_does(page: Page, site: Path) -> None:
    page.open("compare.html")
    text = (site / "assets" / "compare-data.js").read_text()
    data = json.loads(text.removeprefix("window.REPORT = ").rstrip(";\n"))
    one, other = [group for group in data["groups"] if len(group["runs"]) == 3][:2]
    index = data["metrics"].index("test_acc")
    page.open(f"compare.html#a=group:{one['id']}&b=group:{other['id']}")
    rows = page.run(
        "return [...document.querySelectorAll('#metrics tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    row = next(row for row in rows if row[0] == "test_acc")
    values = [[run["metrics"][index] for run in group["runs"]] for group in (one, other)]
    test = stats.ttest_rel(*values)
    assert float(row[5]) == pytest.approx(test.statistic, abs=6e-4)
    assert float(row[6]) == pytest.approx(test.pvalue, rel=6e-3)
    assert row[7] == "3"
    config = page.browser.find_element(By.ID, "config").text
    assert "method." in config
    page.browser.find_element(By.ID, "swap").click()
    hash_now = page.run("return decodeURIComponent(location.hash)")
    assert hash_now == f"#a=group:{other['id']}&b=group:{one['id']}"


def test_runs_are_found_and_compared(page: Page, site: Path) -> None:
    page.open("compare.html")
    choose(page, "a", "(failed)")
    choose(page, "b", "seed=2")
    assert page.run("return document.querySelectorAll('#compared tbody tr').length") == 2
    assert "run:" in page.run("return decodeURIComponent(location.hash)")


def test_p_is_that_of_scipy_far_into_the_tails(page: Page) -> None:
    page.open("compare.html")
    for freedom in (1, 2, 3, 4, 9, 30, 200):
        for t in (0.0, 1e-6, 0.1, 0.7, 1.0, 2.5, 6.0, 20.0, 200.0):
            ours = page.run("return Statistics.studentP(arguments[0], arguments[1])", t, freedom)
            assert ours == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-9), (t, freedom)


def test_the_filter_of_runs(page: Page) -> None:
    page.open("runs.html")
    shown = "return [...document.querySelectorAll('#groups tbody tr')].filter((row) => !row.hidden).length"
    every = page.run(shown)
    page.browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("epochs=3")
    assert 0 < page.run(shown) < every
    assert "of" in page.browser.find_element(By.CSS_SELECTOR, "[data-count]").text


def test_an_attack_does_nothing(browser: webdriver.Chrome, tmp_path: Path) -> None:
    from runner import cli

    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    tags = {"runner.reason": attack, "runner.method": attack, "runner.overrides": json.dumps([attack])}
    (identifier, *_) = build(tmp_path, 5, **tags)
    assert cli.status(["report", str(tmp_path / "site"), "paper=forwardgnn", f"home={tmp_path}"]) == 0
    page = Page(browser, tmp_path / "site")
    for name in ("index.html", "runs.html", "compare.html", f"runs/{identifier}.html"):
        page.open(name)
        assert page.run("return document.title") != "owned"
        assert page.browser.get_log("browser") == []


@pytest.mark.slow
def test_the_pages_of_five_thousand_runs_open(browser: webdriver.Chrome, tmp_path: Path) -> None:
    from runner import cli

    build(tmp_path, 5000)
    assert cli.status(["report", str(tmp_path / "site"), "paper=forwardgnn", f"home={tmp_path}"]) == 0
    page = Page(browser, tmp_path / "site")
    limits: dict[str, float] = {"index.html": 1000, "runs.html": 5000, "compare.html": 5000}
    for name, limit in limits.items():
        page.open(name)
        assert page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < limit
    assert page.run("return document.querySelectorAll('#choice-a option').length") == 6000

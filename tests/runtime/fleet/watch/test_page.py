"""The page in a real browser: live updates, the slider, light and dark, a narrow screen, the token's form."""

import shutil

import pytest

pytest.importorskip("starlette")
pytest.importorskip("networkx")  # the verbs of `edgeflock fleet`
webdriver = pytest.importorskip("selenium.webdriver")

from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PATIENCE_S = 120
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(PATIENCE_S)
    yield driver
    driver.quit()


@pytest.fixture
def until(browser):
    return lambda holds: WebDriverWait(browser, PATIENCE_S).until(lambda _: holds())


def text(browser, selector):
    return browser.execute_script("return document.querySelector(arguments[0]).innerText", selector)


def rounds(written, first, last):
    for k in range(first, last + 1):
        written.mixes(k, heard=["r2"] if k % 3 else (), missing=() if k % 3 else ["r2"])
        written.validates(k, 1.0 / k)


def test_the_page_follows_a_fleet_that_learns_and_goes_back_through_its_rounds(log, serve, browser, until):
    written = log()
    rounds(written, 1, 4)
    browser.get(serve(written.folder))
    until(lambda: "4 of 4" in text(browser, "#shown"))
    assert "0.25" in text(browser, "[data-robot=r1]") and "r1 – r2" in text(browser, "table")
    rounds(written, 5, 6)
    until(lambda: "without r2" in text(browser, "[data-robot=r1]"))
    assert "6 of 6" in text(browser, "#shown")

    slider = browser.find_element(By.ID, "round")
    slider.send_keys(Keys.HOME)
    until(lambda: "replayed" in text(browser, "header"))
    until(lambda: "round 1," in text(browser, "[data-robot=r1]"))
    slider.send_keys(Keys.ARROW_RIGHT)
    until(lambda: "0.5" in text(browser, "[data-robot=r1] .model"))
    browser.find_element(By.ID, "live").click()
    until(lambda: "replayed" not in text(browser, "header") and "6 of 6" in text(browser, "#shown"))
    wrong = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not wrong  # the browser fetched nothing from elsewhere and refused nothing of ours


def test_a_replay_plays_to_its_end(log, serve, browser, until):
    written = log()
    rounds(written, 1, 3)
    browser.get(serve(written.folder, "--replay"))
    assert "1 of 3" in text(browser, "#shown")
    browser.find_element(By.ID, "play").click()
    until(lambda: "3 of 3" in text(browser, "#shown") and text(browser, "#play") == "Play")
    assert not browser.find_elements(By.ID, "live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_and_a_narrow_screen_need_not_be_scrolled_sideways(log, serve, browser, scheme):
    written = log()
    rounds(written, 1, 3)
    written.refuses("r2", "norm")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(serve(written.folder))
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
        assert browser.execute_script(LEAST_CONTRAST) >= 4.5  # WCAG 2.2, 1.4.3
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


LEAST_CONTRAST = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => channels(colour).slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return (channels(colour)[3] ?? 1) > 0 || !element.parentElement ? colour : ground(element.parentElement);
};
const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
return Math.min(...[...document.querySelectorAll("main *, footer *")]
  .filter((e) => !e.closest("svg") && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
  .map((e) => contrast(light(getComputedStyle(e).color), light(ground(e)))));
"""


def test_the_form_takes_the_token(log, serve, browser, until, tmp_path):
    (tmp_path / "token").write_text("correct-horse-battery-staple")
    browser.get(serve(log().folder, "--token", tmp_path / "token"))
    browser.find_element(By.ID, "token").send_keys("wrong", Keys.ENTER)
    until(lambda: "not the token" in text(browser, "main"))
    browser.find_element(By.ID, "token").send_keys("correct-horse-battery-staple", Keys.ENTER)
    until(lambda: browser.find_elements(By.ID, "view") and "hall-3" in text(browser, "#view"))

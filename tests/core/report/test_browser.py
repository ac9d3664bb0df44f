"""The page in Chromium, loaded from disk: it plays clips, fits, has a dark mode, and uses no network."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from latte_cli.core.report.page import write_report
from latte_cli.core.settings.schema import Settings

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
)  # fmt: skip

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium with chromedriver: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A Chromium with a temporary profile, whose console and requests are recorded."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


def _look(browser: webdriver.Chrome, *, width: int, scheme: str) -> tuple[float, int]:
    """The brightness of the page at a width and in a colour scheme, and how many pixels it is too wide."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L")
    too_wide = browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    return float(np.asarray(picture)[:, -8:].mean()), too_wide


@pytest.mark.slow
def test_the_page_plays_clips_and_fits_all_screens(browser: webdriver.Chrome, run: Settings) -> None:
    page = write_report(run)
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # of earlier pages
    browser.get(page.resolve().as_uri())
    browser.set_script_timeout(20)
    playing = browser.execute_async_script(
        "const done = arguments[0], videos = [...document.querySelectorAll('video')];"
        "const found = () => videos.map(v => [v.videoWidth, v.readyState, v.error]);"
        "const ready = () => videos.every(v => v.readyState == 4) && !videos[0].paused;"
        "const wait = () => ready() ? done(found()) : setTimeout(wait, 50); wait();"
    )
    assert playing == [[32, 4, None]] * 4  # only the first plays; those that are not visible wait
    assert browser.execute_script("return document.title").endswith("'two' - latte")
    for width in (1280, 360):
        light, too_wide = _look(browser, width=width, scheme="light")
        dark, also = _look(browser, width=width, scheme="dark")
        assert light > 200
        assert dark < 60
        assert (too_wide, also) == (0, 0)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and not message["params"]["request"]["url"].startswith("chrome:")  # the browser's own first tab
    ]
    assert requests
    assert {url.partition(":")[0] for url in requests} == {"file", "data"}
    assert [url for url in requests if url.startswith("file:")] == [page.resolve().as_uri()]


def test_the_page_s_policy_blocks_external_content(
    browser: webdriver.Chrome, run: Settings, tmp_path: Path
) -> None:
    page = write_report(run)
    altered = tmp_path / "altered.html"
    altered.write_text(
        page.read_text("utf-8").replace("</main>", '<script>document.title = "taken"</script></main>')
    )
    browser.get(altered.resolve().as_uri())
    assert browser.title.endswith("- latte")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))

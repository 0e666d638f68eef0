"""A real browser for the tests of pages: Debian's Chromium, without a window."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from converters.page import browser

DESKTOP, PHONE = (1280, 900), (390, 844)


def missing() -> str:
    """Returns what is missing and how to install it, or an empty string."""
    tools = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    lacking = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if not lacking:
        return ""
    return f"{' and '.join(lacking)} missing (apt-get install {' '.join(lacking.values())})"


@contextlib.contextmanager
def opened(size: tuple[int, int] = DESKTOP) -> Iterator[webdriver.Chrome]:
    """Starts a browser that keeps what pages write to its console, and is without a network."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the tests may run as root
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--window-size={size[0]},{size[1]}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(120)
        yield driver
    finally:
        driver.quit()


def show(driver: webdriver.Chrome, path: pathlib.Path, size: tuple[int, int], dark: bool) -> None:
    """Loads a page at a width, as a phone does or a screen, in light or in dark colours."""
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", metrics | {"mobile": size == PHONE}
    )
    driver.get(path.absolute().as_uri())


def missing_compiler() -> str:
    """Returns why a page has no box to type into, or an empty string."""
    try:
        browser.program()
    except browser.BrowserError as error:
        return str(error)
    return ""

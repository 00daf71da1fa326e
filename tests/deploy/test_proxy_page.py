# SPDX-License-Identifier: Apache-2.0
"""The page in a browser through Caddy: another origin's broker, TLS, the policies of both."""

import pytest
from fixtures import TOKEN, product  # noqa: F401  fixture
from parts import eventually
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

pytestmark = pytest.mark.browser
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-dev-shm-usage",
         "--ignore-certificate-errors")  # of a local certificate, whose authority the browser does not know


@pytest.fixture
def driver(tmp_path):
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'chromium'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    yield driver
    driver.quit()


def complaints(driver):
    return [line["message"] for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def text(driver, id):
    return driver.find_element("id", id).text


def test_the_page_works_and_the_console_is_silent(driver, product):  # noqa: F811
    driver.get(product.origin + "/")
    eventually(lambda: driver.find_element("id", "token").is_displayed(), "it asks for the token", seconds=20)
    # What it reads is refused until it has the token; nothing else may be complained of.
    assert [line for line in complaints(driver) if " 401 " not in line] == []
    driver.find_element("id", "token").send_keys(TOKEN)
    driver.find_element("css selector", "#token-form button").click()
    eventually(lambda: text(driver, "health") == "Ready", "the page says Ready", seconds=20)
    eventually(lambda: text(driver, "log-state") == "Live", "the log is live", seconds=20)
    driver.get_log("browser")
    driver.find_element("id", "send").click()
    eventually(lambda: text(driver, "received-status") == "202", "the message went", seconds=20)
    eventually(lambda: "Some kind of data" in text(driver, "log-list"), "the entry comes by the event stream", seconds=20)
    assert complaints(driver) == []
    protocols = driver.execute_script("return performance.getEntriesByType('resource').map((each) => each.nextHopProtocol)")
    assert "h2" in protocols and "http/1.1" not in protocols


def test_a_policy_that_is_broken_shows(driver, product):  # noqa: F811
    """What the test above looks for is there to be seen."""
    driver.get(product.origin + "/")
    driver.execute_script("const script = document.createElement('script'); script.textContent = '1'; document.head.append(script)")
    eventually(lambda: any("Content Security Policy" in line for line in complaints(driver)), "the console complains", seconds=10)

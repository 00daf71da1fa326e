# SPDX-License-Identifier: Apache-2.0
"""The page in Debian's chromium: what a person does, and that a stranger's text stays text."""

import json
import pathlib

import pytest
from conftest import DIRECT, INPROC, ON_SERVICES, all_logs, embedded_only, envelope, eventually, post_log
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.browser
PAGE_ALONE = embedded_only("the page alone, wherever its broker is")

CHROMIUM, DRIVER = pathlib.Path("/usr/bin/chromium"), pathlib.Path("/usr/bin/chromedriver")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
         "--no-first-run", "--disable-dev-shm-usage", "--window-size=1360,1000"]
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>"


class Page:
    """The page as a person uses it."""

    def __init__(self, driver, url, broker_url=None):
        self.driver, self.url = driver, url
        self.own_urls = (url, broker_url or url)
        for log in ("browser", "performance"):
            driver.get_log(log)  # what the page of the test before left
        driver.get(url + "/")
        eventually(lambda: self.text("health") == "Ready", "the page says Ready")
        eventually(lambda: self.text("log-state") == "Live", "the log is live")

    def one(self, id):
        return self.driver.find_element(By.ID, id)

    def text(self, id):
        return self.one(id).text

    def choose(self, name, value):
        self.driver.find_element(By.CSS_SELECTOR, f'input[name="{name}"][value="{value}"]').click()

    def type(self, id, text):
        # Set at once and announced as typing would: chromedriver can't type every character.
        self.driver.execute_script("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}));", self.one(id), text)

    def send(self):
        before = len(self.driver.find_elements(By.CSS_SELECTOR, "#history button"))
        self.one("send").click()
        eventually(lambda: self.one("send").is_enabled() and len(self.driver.find_elements(By.CSS_SELECTOR, "#history button")) > before, "an answer shows")
        return self.text("received-status")

    def fact(self, panel, name):
        rows = self.driver.find_elements(By.CSS_SELECTOR, f"#{panel} .facts div")
        return next((row.find_element(By.TAG_NAME, "dd").text for row in rows if row.find_element(By.TAG_NAME, "dt").text == name), None)

    def entries(self):
        # In one call, as the list may change between two.
        return self.driver.execute_script("return [...document.querySelectorAll('#log-list li')].map((entry) => entry.innerText)")

    def problems(self):
        """What the browser's console complains of; answers of 4xx that a test provokes are the network's."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING") and line["source"] != "network"]

    def foreign_requests(self):
        urls = []
        for line in self.driver.get_log("performance"):
            message = json.loads(line["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                urls.append(message["params"]["request"]["url"])
        assert any(url.startswith(self.url) for url in urls), "requests are seen at all"
        return [url for url in urls if not url.startswith((*self.own_urls, "data:", "about:", "chrome:", "blob:"))]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    missing = [str(path) for path in (CHROMIUM, DRIVER) if not path.exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (make deps)")
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in FLAGS + [f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service(str(DRIVER)), options=options)
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, own):
    page = Page(driver, own.page_url, own.url)
    yield page
    problems, foreign, title = page.problems(), page.foreign_requests(), driver.title
    driver.get("about:blank")
    assert problems == []
    assert foreign == []
    assert title == "FlexiConnect"


@pytest.mark.parametrize("service, status, message, call", [
    ("log", "202", "logger via RabbitMQ", "POST /handle"), ("mail", "202", "Message sent to you@example.com", "POST /handle"),
    ("auth", "202", "Authenticated", "POST /handle"), ("grpc", "202", "logged", "POST /log-gRPC"), ("broker", "200", "Hit the broker", "POST /"),
])
def test_every_example_is_sent_and_answered(page, service, status, message, call):
    page.choose("service", service)
    assert page.send() == status
    assert f'"message": "{message}"' in page.text("received")
    assert page.fact("sent", "Call") == call
    assert "ms" in page.fact("received", "Took")
    if service != "broker":
        assert page.fact("received", "Way") and page.fact("received", "Id")


def test_a_log_shows_up_live(page):
    page.send()
    eventually(lambda: any("Some kind of data" in entry for entry in page.entries()), "the entry shows")


def test_an_entry_opens_to_where_it_has_been(page):
    page.send()
    summary = eventually(lambda: page.driver.find_elements("css selector", "#log-list details summary"), "the entry has hops")[0]
    assert ("rabbitmq" if ON_SERVICES else "broker>amqp") in summary.text and "listener, logger" in summary.text
    summary.click()
    opened = eventually(lambda: page.driver.find_element("css selector", "#log-list details[open] .facts").text, "it opens")
    assert "Trace" in opened and "ms" in opened


def test_the_receipt_says_where_the_message_is(page):
    page.send()
    button = page.driver.find_element("css selector", "#received .receipt button")

    def asked():
        button.click()
        return "Stored, at logger" in page.text("received")

    eventually(asked, "it is stored", interval=0.2)
    page.choose("service", "auth")
    page.send()
    assert not page.driver.find_elements("css selector", "#received .receipt")


def test_what_others_send_shows_up_live_and_once(page, own):
    with own.client() as client:
        for number in range(30):
            envelope(post_log(client, "others", f"number {number}.", via=DIRECT), 202)
    eventually(lambda: sum("others" in entry for entry in page.entries()) == 30, "all entries show once")
    assert "number 29." in page.entries()[0]


@pytest.mark.parametrize("via", [INPROC, "http", "rpc", "grpc", "amqp"])
def test_transport_and_acknowledgement_are_sent(page, via):
    page.choose("via", via)
    page.choose("ack", "stored")
    assert page.send() == "202"
    assert f'"via": "{via}"' in page.text("sent") and '"ack": "stored"' in page.text("sent")
    assert page.fact("received", "Way").startswith(via)


@embedded_only("ways inside one process")
@pytest.mark.parametrize("own", [{"FLEXI_RPC_LISTEN": "", "FLEXI_GRPC_LISTEN": ""}], indirect=True)
@pytest.mark.parametrize("via", ["rpc", "grpc"])
def test_a_transport_that_is_not_there_shows_the_servers_reason(page, via):
    page.choose("via", via)
    assert page.send() == "400"
    assert via in page.text("received") and '"error": true' in page.text("received")


def test_a_key_makes_a_duplicate_visible(page):
    page.choose("via", DIRECT)
    page.one("key-new").click()
    key = page.one("key").get_attribute("value")
    assert len(key) >= 16
    page.send()
    assert page.fact("received", "Duplicate") is None and page.fact("sent", "Idempotency-Key") == key
    page.send()
    assert page.fact("received", "Duplicate").startswith("yes")
    page.type("payload", '{"name":"event","data":"other"}')
    assert page.send() == "409"


@PAGE_ALONE
def test_the_payload_is_checked_while_typing(page):
    page.type("payload", '{"name": "x",')
    assert page.text("payload-state").startswith("Not JSON") and page.one("payload").get_attribute("aria-invalid") == "true"
    page.one("send").click()
    assert page.driver.switch_to.active_element.get_attribute("id") == "payload"
    assert page.driver.find_elements(By.CSS_SELECTOR, "#history button") == []
    page.type("payload", '{"name": "x"}')
    assert "“data” is missing" in page.text("payload-state")
    assert page.send() == "400" and "data" in page.text("received")
    page.one("payload-reset").click()
    assert page.text("payload-state") == "Valid JSON."


@embedded_only("the mailbox")
def test_the_keyboard_is_enough(page):
    page.driver.find_element(By.CSS_SELECTOR, 'input[name="service"][value="log"]').send_keys(Keys.ARROW_RIGHT)
    assert '"subject"' in page.one("payload").get_attribute("value")
    page.one("payload").send_keys(Keys.CONTROL, Keys.ENTER)
    eventually(lambda: page.text("received-status") == "202", "it is sent")
    eventually(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#mail-list button"), "the mail shows")[0].send_keys(Keys.ENTER)
    eventually(lambda: page.one("mail-dialog").is_displayed(), "the mail opens")
    page.one("tab-html").send_keys(Keys.ARROW_RIGHT)
    assert page.one("mail-plain").is_displayed() and "Hello world!" in page.text("mail-plain")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    eventually(lambda: not page.one("mail-dialog").is_displayed(), "Escape closes it")


@embedded_only("the mailbox")
def test_a_mail_is_shown_in_three_ways_and_deleted(page):
    page.choose("service", "mail")
    assert page.send() == "202"
    eventually(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#mail-list button"), "the mail shows")[0].click()
    eventually(lambda: page.one("mail-dialog").is_displayed(), "the mail opens")
    assert page.text("mail-subject") == "Test email" and "you@example.com" in page.text("mail-people")
    frame = page.driver.find_element(By.CSS_SELECTOR, "#mail-html iframe")
    assert frame.get_attribute("sandbox") == "" and "Hello world!" in frame.get_attribute("srcdoc")
    page.driver.switch_to.frame(frame)
    assert "Hello world!" in page.driver.find_element(By.TAG_NAME, "body").text, "it is rendered"
    page.driver.switch_to.default_content()
    page.one("tab-source").click()
    assert "MIME-Version: 1.0" in page.text("mail-source")
    page.driver.find_element(By.CSS_SELECTOR, "#mail-release-form button").click()
    eventually(lambda: page.text("mail-result").startswith("Not released"), "the reason shows")
    delete = page.driver.find_element(By.CSS_SELECTOR, "#mail-delete-place button")
    delete.click()
    assert "for good" in delete.text and page.one("mail-dialog").is_displayed()
    delete.click()
    eventually(lambda: not page.one("mail-dialog").is_displayed(), "it is closed")
    eventually(lambda: "None" in page.text("mail-list"), "it is gone")


@embedded_only("the mailbox")
def test_hostile_text_stays_text(page, own):
    with own.client() as client:
        envelope(post_log(client, HOSTILE, HOSTILE, via=DIRECT), 202)
        envelope(client.post("/send", json={"to": "you@example.com", "subject": HOSTILE, "message": HOSTILE}), 202)
    page.type("payload", json.dumps({"name": "hostile", "data": HOSTILE}))
    assert page.send() == "202"
    # the entry sent here, the one from the page, and the one that the mail service left
    eventually(lambda: sum(HOSTILE in entry for entry in page.entries()) == 3, "the entries show as text")
    assert "onerror" in page.text("sent")
    eventually(lambda: HOSTILE in page.text("mail-list"), "the subject shows as text")
    page.driver.find_element(By.CSS_SELECTOR, "#mail-list button").click()
    eventually(lambda: page.one("mail-dialog").is_displayed(), "the mail opens")
    for tab in ("plain", "source", "html"):
        page.one(f"tab-{tab}").click()
    page.driver.switch_to.frame(page.driver.find_element(By.CSS_SELECTOR, "#mail-html iframe"))
    assert "onerror" in page.driver.find_element(By.TAG_NAME, "body").text
    page.driver.switch_to.default_content()
    assert page.driver.find_elements(By.CSS_SELECTOR, "main img, dialog img, main script, dialog script") == []
    assert page.driver.title == "FlexiConnect"


def test_filters_and_load_more(page, own):
    with own.client() as client:
        for number in range(120):
            envelope(post_log(client, "many" if number % 2 else "few", f"entry{number}.", via=DIRECT), 202)
    page.driver.refresh()
    eventually(lambda: len(page.entries()) == 50, "the first page")
    for count in (100, 120):
        page.one("log-more").click()
        eventually(lambda: len(page.entries()) == count, f"{count} entries")
    assert not page.one("log-more").is_displayed()
    page.type("log-name", "many")
    eventually(lambda: len(page.entries()) == 50 and all("many" in entry for entry in page.entries()), "only that name")
    page.type("log-q", "entry7")
    eventually(lambda: page.entries() and all("entry7" in entry for entry in page.entries()), "only those words")
    page.type("log-q", "absent")
    eventually(lambda: page.entries() == ["No entry matches."], "none")


def test_failed_messages_are_shown_replayed_and_discarded(page, own, unique):
    with own.client() as client:
        key = {"Idempotency-Key": unique}
        envelope(client.post("/log", json={"name": "first", "data": "x"}, headers={"X-Flexi-Id": unique}), 202)
        envelope(post_log(client, "second", "x", headers=key, via="amqp"), 202)
        eventually(lambda: client.get("/dlq").json()["data"], "it is dead-lettered")
        page.one("failed-refresh").click()
        eventually(lambda: "conflict" in page.text("failed-list"), "it shows with its reason")
        died = client.get("/dlq").json()["data"][0]["dead_at"]
        page.driver.find_element(By.XPATH, "//ul[@id='failed-list']//button[text()='Replay']").click()
        eventually(lambda: [letter for letter in client.get("/dlq").json()["data"] if letter["dead_at"] != died], "it dies again")
        page.one("failed-refresh").click()
        discard = lambda: page.driver.find_element(By.XPATH, "//ul[@id='failed-list']//button[starts-with(text(), 'Discard')]")
        eventually(lambda: page.driver.find_elements(By.CSS_SELECTOR, f"#failed-list time[title='{client.get('/dlq').json()['data'][0]['dead_at']}']"), "the list is new")
        button = discard()
        button.click()
        button.click()
        eventually(lambda: "None" in page.text("failed-list"), "it is gone")
        assert client.get("/dlq").json()["data"] == []


@embedded_only("the mailbox")
def test_a_new_mail_leaves_the_loaded_page_and_the_focus_alone(page, own):
    def send(number):
        envelope(client.post("/send", json={"to": "you@example.com", "subject": f"mail {number}.", "message": "x"}), 202)

    def shown():
        return page.driver.execute_script("return [...document.querySelectorAll('#mail-list strong')].map((subject) => subject.textContent)")

    with own.client() as client:
        for number in range(70):
            send(number)
        page.driver.refresh()
        eventually(lambda: len(shown()) == 50, "the first page")
        page.one("mail-more").click()
        eventually(lambda: len(shown()) == 70, "both pages")
        page.driver.execute_script("window.held = document.querySelectorAll('#mail-list button')[60]; window.held.focus();")
        send(70)
        page.one("mail-refresh").click()
        page.driver.execute_script("window.held.focus();")
        eventually(lambda: "mail 70." in shown(), "the new mail shows")
        assert shown() == [f"mail {number}." for number in range(70, -1, -1)], "each once, the loaded page too"
        assert page.driver.execute_script("return document.activeElement === window.held && window.held.isConnected")
        gone = client.get("/mails").json()["data"][5]
        envelope(client.delete(f"/mails/{gone['id']}"), 200)
        page.one("mail-refresh").click()
        eventually(lambda: gone["subject"] not in shown(), "what is gone goes")
        assert len(shown()) == 70


def test_a_new_dead_letter_leaves_an_opened_one_and_a_half_confirmed_one_alone(page, own, unique):
    def poison(number):
        message = f"{unique}{number}"
        # As a peer of the logger: the broker would refuse a key that it knows with another content.
        envelope(client.post("/log", json={"name": "first", "data": "x"}, headers={"X-Flexi-Id": message}), 202)
        envelope(post_log(client, "second", f"letter {number}.", headers={"Idempotency-Key": message}, via="amqp"), 202)
        eventually(lambda: client.get(f"/dlq/{unique}{number}").status_code == 200, "it is dead-lettered")

    with own.client() as client:
        poison(0)
        page.one("failed-refresh").click()
        eventually(lambda: page.driver.find_elements(By.CSS_SELECTOR, "#failed-list details"), "it shows")[0].find_element(By.TAG_NAME, "summary").click()
        discard = page.driver.find_element(By.XPATH, "//ul[@id='failed-list']//button[text()='Discard']")
        discard.click()
        assert "for good" in discard.text
        poison(1)
        # By itself, within five seconds: a click would take the focus, and with it the half confirmation.
        eventually(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#failed-list > li")) == 2, "the new one shows")
        assert "for good" in discard.text, "the same button still asks"
        assert "letter 0." in page.driver.find_element(By.CSS_SELECTOR, "#failed-list details[open]").text
        discard.click()
        eventually(lambda: [letter["payload"]["data"] for letter in client.get("/dlq").json()["data"]] == ["letter 1."], "that one is discarded")
        eventually(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "#failed-list > li")) == 1, "and no other")


@PAGE_ALONE
@pytest.mark.parametrize("width", [320, 390, 768, 1360])
def test_no_width_needs_sideways_scrolling(page, width):
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700})
    try:
        page.send()
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@PAGE_ALONE
def test_every_control_has_a_name(page):
    nameless = page.driver.execute_script("""
        return [...document.querySelectorAll('button, input, textarea, a, iframe')].filter((element) => {
          const label = element.labels?.[0]?.textContent || element.getAttribute('aria-label') || element.textContent || element.title;
          return !label.trim();
        }).map((element) => element.outerHTML);""")
    assert nameless == []


def contrast_script():
    return """
      const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
      const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
      const background = (element) => { for (let at = element; at; at = at.parentElement) { const colour = rgba(getComputedStyle(at).backgroundColor); if (colour[3] === 255) return colour; } return [255, 255, 255, 255]; };
      const bad = [];
      for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.closest('.visually-hidden, .skip, .fresh, noscript')) continue;
        const a = luminance(rgba(getComputedStyle(element).color)), b = luminance(background(element));
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) bad.push(`${element.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
      }
      return bad;"""


@PAGE_ALONE
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough_in_both_schemes(page, theme):
    while page.text("theme").lower() != theme:
        page.one("theme").click()
    page.send()
    page.choose("via", "rpc")
    page.send()
    page.type("payload", "{")
    assert page.driver.execute_script(contrast_script()) == []


def test_what_is_down_is_named_and_the_page_lives_on(driver, make_instance):
    instance = make_instance().start()
    page = Page(driver, instance.page_url, instance.url)
    assert page.send() == "202"
    broker = instance.at("/handle")
    broker.terminate()
    assert page.send() == "No answer"
    assert "can’t be reached" in page.text("received")
    page.one("mail-refresh").click()
    eventually(lambda: "can’t be reached" in page.text("mail-notice"), "the mails say so")
    eventually(lambda: page.text("log-state") == "Down", "the log says so")
    broker.settings["FLEXI_HTTP_LISTEN"] = f"127.0.0.1:{broker.port}"  # the page knows no other
    broker.start()
    eventually(lambda: page.text("log-state") == "Live", "the log heals")
    assert page.send() == "202"
    page.foreign_requests()
    driver.get("about:blank")
    driver.get_log("browser")

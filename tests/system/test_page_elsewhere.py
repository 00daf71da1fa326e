# SPDX-License-Identifier: Apache-2.0
"""The page from one place, the broker at another: BROKER_URL."""

import socket

import pytest
from conftest import envelope, eventually, post_log
from test_page import Page, driver  # noqa: F401  the fixture

pytestmark = pytest.mark.browser


@pytest.fixture
def elsewhere(make_instance):
    """(front end, broker): two processes at two origins, the broker's administration open to the page's."""
    with socket.socket() as probe:  # its origin must be known to the broker before it is there
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = make_instance(settings={"FLEXI_HTTP_ALLOWED_ORIGINS": f"http://127.0.0.1:{port}"}).start()
    front_end = make_instance(settings={"FLEXI_HTTP_LISTEN": f"127.0.0.1:{port}", "BROKER_URL": broker.url}).start()
    return front_end, broker


@pytest.fixture
def page(driver, elsewhere):  # noqa: F811
    page = Page(driver, elsewhere[0].url)
    yield page
    problems = page.problems()
    driver.get("about:blank")
    assert problems == []


@pytest.mark.parametrize("service, status", [("log", "202"), ("mail", "202"), ("auth", "202"), ("broker", "200")])
def test_it_sends_to_the_other_origin(page, elsewhere, service, status):
    front_end, broker = elsewhere
    page.choose("service", service)
    assert page.send() == status
    if service != "broker":
        assert page.fact("received", "Way") and page.fact("received", "Id"), "the headers are exposed to it"
    with front_end.client() as here, broker.client() as there:
        if service == "mail":
            assert len(there.get("/mails").json()["data"]) == 1 and here.get("/mails").json()["data"] == []
        assert not any(entry["name"] == "event" for entry in here.get("/logs").json()["data"]), "nothing went to where the page is from"


def test_it_shows_what_the_other_one_stores(page, elsewhere):
    _, broker = elsewhere
    with broker.client() as client:
        envelope(post_log(client, "elsewhere", "seen over there", via="inproc"), 202)
    eventually(lambda: any("seen over there" in entry for entry in page.entries()), "the entry shows")


def test_only_the_broker_and_its_own_files_are_asked(page, elsewhere):
    front_end, broker = elsewhere
    page.send()
    foreign = page.foreign_requests()
    assert foreign and all(url.startswith(broker.url + "/") for url in foreign), foreign


def test_a_broker_that_is_not_open_to_the_page_says_so(driver, make_instance):  # noqa: F811
    broker = make_instance().start()
    front_end = make_instance(settings={"BROKER_URL": broker.url}).start()
    driver.get(front_end.url + "/")
    eventually(lambda: driver.find_element("id", "send").is_enabled(), "the page is there")
    driver.find_element("id", "send").click()
    # The contract's calls are open to every origin; what reads and administers is not.
    eventually(lambda: driver.find_element("id", "received-status").text == "202", "the message went")
    assert driver.find_element("id", "log-state").text != "Live"
    driver.get("about:blank")
    driver.get_log("browser")

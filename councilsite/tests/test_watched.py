"""What whoever runs the site sees of it: logs and figures of its real processes."""

import json
import socket as sockets
from collections import Counter
from typing import Any

import httpx
import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from conversations.tests.database import environment
from council.models import Breaker, Call, Deliberation, Provider
from council.tests import rosters
from councilsite.tests import test_apart
from councilsite.tests.processes import PATIENCE, Program, free_port
from councilsite.tests.test_apart import (
    DAPHNE,
    NO_REDIS,
    WORKER,
    alice,
    ask,
    finished,
    frames,
    socket,
    wait_until,
)

pytestmark = [pytest.mark.processes, pytest.mark.timeout(180)]

# Its fixtures: the site as processes, over a provider.
provider, site = test_apart.provider, test_apart.site

QUESTION = "Where has the heron hidden the 417 golden eggs?"
KEY = "sk-live-Zq8mWx31"
ADDRESS = "heron@example.org"
TOKEN = "jEgnKx0-a-token-that-opens-something"
SECRETS = {QUESTION, "golden", KEY, ADDRESS, "heron", "alice@example.org", TOKEN, "correct horse"}


def listen() -> sockets.socket:
    taken = sockets.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    return taken


def lines(program: Program) -> list[dict[str, Any]]:
    """What a process has logged."""
    return [json.loads(line) for line in program.said.splitlines() if line.startswith("{")]


def of(program: Program, event: str) -> list[dict[str, Any]]:
    return [each for each in lines(program) if each["event"] == event]


def all_told(program: Program) -> bool:
    """Whether it has told of every call, that for the title too: it does so a moment after the call's row has ended."""
    calls = Call.objects.all()
    return calls.filter(purpose="title").exists() and len(of(program, "Call ended")) == calls.count()


def forgeries(program: Program) -> list[dict[str, Any]]:
    """What it has logged of forms that did not come from a page of its own."""
    return [each for each in lines(program) if each["logger"] == "django.security.csrf"]


def scraped(port: str) -> dict[tuple[str, ...], float]:
    """Figures by name and values of labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE, trust_env=False).text
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_logs_hold_neither_question_nor_key_nor_address_nor_token(site, provider, valkey):
    """Not even where the provider repeats them in its errors, or somebody types them into an address."""
    for each in Provider.objects.all():
        each.api_key = KEY
        each.save()
    echo = f"{QUESTION} {KEY} {ADDRESS}"
    provider.script({"model": "test-0"}, fault="unavailable", text=echo)
    provider.script({"model": "test-1"}, fault="refuse_auth", text=echo)
    apart = site(valkey)
    worker = apart.start_worker()
    with alice(apart) as browser:
        place = ask(browser, f"{QUESTION} Write to {ADDRESS}.")
        wait_until(finished)
        browser.get(place)
        browser.get(f"/s/{TOKEN}/")
        with httpx.Client(base_url=apart.url, timeout=PATIENCE, trust_env=False) as stranger:
            assert stranger.post(f"/s/{TOKEN}/copy/", data={"q": QUESTION}).status_code == 403
            stranger.post("/accounts/login/", data={"login": ADDRESS, "password": QUESTION})
    wait_until(lambda: of(worker, "Deliberation ended"))
    assert of(worker, "Call is tried again")
    wait_until(lambda: len(forgeries(apart.web)) == 2)
    forged, _signing_in = forgeries(apart.web)
    assert (forged["status"], forged["route"]) == (403, "s/<str:token>/copy/")
    said = apart.web.said + worker.said
    assert [each for each in SECRETS if each in said] == []


def test_one_id_leads_from_the_request_through_its_job_to_its_calls(site, provider, valkey):
    apart = site(valkey)
    with alice(apart) as browser:
        asked = browser.post("/", data={"question": QUESTION, "csrfmiddlewaretoken": browser.cookies["csrftoken"]})
        with connection.cursor() as cursor:
            cursor.execute("SELECT args ->> 'deliberation_id' FROM procrastinate_jobs WHERE task_name = 'deliberate'")
            ((job,),) = cursor.fetchall()
        worker = apart.start_worker()
        wait_until(lambda: of(worker, "Deliberation ended"))
        wait_until(lambda: all_told(worker))
    wait_until(lambda: of(apart.web, "Question asked"))
    (question,) = of(apart.web, "Question asked")
    assert question["request"] == asked.headers["x-request-id"]
    (begun,), (ended,) = of(worker, "Deliberation begun"), of(worker, "Deliberation ended")
    calls = of(worker, "Call ended")
    deliberation = Deliberation.objects.get()
    assert {question["deliberation"], begun["deliberation"], ended["deliberation"], job} == {str(deliberation.pk)}
    rows = Call.objects.filter(deliberation=deliberation)
    assert {(each["deliberation"], each["call"]) for each in calls} == {(str(deliberation.pk), row.pk) for row in rows}
    assert (ended["status"], ended["calls"]) == ("complete", 7)
    assert {(each["outcome"], each["provider"]) for each in calls} == {("complete", "Test")}
    assert all(each["ms"] >= each["first_token_ms"] > 0 for each in calls)


def test_figures_are_scraped_from_worker_and_web_server(site, provider, valkey):
    provider.script({"model": "test-1"}, fault="refuse_auth")
    provider.script({"model": "test-2", "kind": "answer"}, fault="server_error", times=1)
    spare = rosters.model(Provider.objects.get(), "spare")
    Breaker.objects.create(language_model=spare, state="open")
    ports = {"web": str(free_port()), "worker": str(free_port())}
    apart = site(valkey, METRICS_PORT=ports["web"])
    with alice(apart) as browser:
        place = ask(browser)
        with socket(apart, browser, place) as page:
            before = scraped(ports["web"])
            worker = apart.start_worker(METRICS_PORT=ports["worker"])
            assert list(frames(page))
        wait_until(lambda: of(worker, "Deliberation ended"))
    assert before["council_jobs", "waiting"] == 1
    assert before["council_deliberations_unfinished", "queued"] == 1
    assert before["council_oldest_unfinished_seconds",] > 0
    assert before["council_sockets",] == 1
    assert before["council_database_connections", "open"] >= 1
    assert before["council_breaker", spare.name, "Test", "open"] == 1
    assert (before["council_ready", "worker"], before["council_ready", "channel layer"]) == (0, 1)
    wait_until(lambda: scraped(ports["web"])["council_sockets",] == 0)
    wait_until(lambda: all_told(worker))
    worked = scraped(ports["worker"])
    assert worked["council_deliberations_ended_total", "partial"] == 1
    calls = {key[1:]: value for key, value in worked.items() if key[0] == "council_calls_total"}
    assert calls == Counter(Call.objects.values_list("model_name", "outcome", "provider_name", "purpose"))
    assert worked["council_call_seconds_count", "Model 0", "Test"] == 2
    assert worked["council_first_token_seconds_count", "Model 0", "Test"] == 2
    used = Call.objects.filter(model_name="Model 0", deliberation__isnull=False).values_list("output_tokens", flat=True)
    assert worked["council_tokens_total", "output", "Model 0", "Test"] == sum(used)
    assert worked["council_call_retries_total",] == 1
    assert worked["council_ready", "worker"] == 1


@pytest.mark.parametrize("program", [WORKER, (*DAPHNE, "-p", "0")], ids=["worker", "daphne"])
def test_a_port_for_figures_that_is_no_port_or_taken_is_named(program, tmp_path, transactional_db):
    with listen() as taken:
        for port, said in {"http": "METRICS_PORT is a number", str(taken.getsockname()[1]): "cannot be served"}.items():
            refused = Program(*program, **environment(VAR_DIR=str(tmp_path), METRICS_PORT=port))
            assert refused.ends() == 1
            assert said in refused.said
            assert "Traceback" not in refused.said
            refused.close()


def test_without_redis_a_socket_is_refused_in_one_line_and_the_page_goes_on_by_looking(site, provider):
    apart = site(NO_REDIS)
    apart.start_worker()
    with alice(apart) as browser:
        place = ask(browser)
        for _ in range(3):
            with pytest.raises(InvalidStatus), socket(apart, browser, place):
                pass
        wait_until(finished)
        assert not browser.get(f"{place}changes/?after=0&revision=0").json()["unfinished"]
    wrong = [each for each in lines(apart.web) if each["level"] != "info"]
    *counting, line = sorted(wrong, key=lambda each: "channel layer is away" in each["event"])
    assert all("each process counts for itself" in each["event"] for each in counting)
    assert "channel layer is away" in line["event"]
    assert "exception" not in line
    assert "Traceback" not in apart.web.said

"""What of an event gets into the log, and in which form."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import structlog
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.test import Client

from conversations import share_views
from councilsite import logs

SECRET = "the 417 golden eggs"


@pytest.fixture
def written(monkeypatch):
    """What would be written by now, a line an event."""
    handler, told = Kept(form(terminal=False)), []
    handler.take = told.append
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers, handler])
    return told


class Kept(logging.Handler):
    take: Callable[[str], Any]

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        self.take(self.format(record))


def form(*, terminal: bool, **environ: str) -> logging.Formatter:
    """The formatter that the settings make."""
    made = dict(logs.configuration(environ, terminal=terminal)["formatters"]["line"])
    return made.pop("()")(**made)


def record(message: str = "Something happened") -> logging.LogRecord:
    return logging.LogRecord("council", logging.INFO, "", 0, message, (), None)


@pytest.mark.parametrize(("terminal", "asked", "json_lines"), [
    (True, "", False), (False, "", True), (True, "json", True), (False, "text", False),
])  # fmt: skip
def test_json_is_written_unless_somebody_looks_or_a_setting_says_otherwise(terminal, asked, json_lines):
    line = form(terminal=terminal, LOG_FORMAT=asked).format(record())
    assert "Something happened" in line
    assert line.startswith("{") is json_lines


def test_another_form_is_refused():
    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT is json or text"):
        form(terminal=True, LOG_FORMAT="xml")


def test_a_line_has_its_time_level_event_and_values(written):
    structlog.get_logger("council.somewhere").warning("It ended", deliberation="d1", seconds=1.5)
    (line,) = [json.loads(each) for each in written]
    assert list(line)[:3] == ["time", "level", "event"]
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning", "event": "It ended", "deliberation": "d1", "seconds": 1.5, "logger": "council.somewhere",
    }  # fmt: skip


def test_what_is_bound_is_named_in_the_lines_of_libraries_too(written):
    with structlog.contextvars.bound_contextvars(request="r1"):
        logging.getLogger("a.library").error("It went wrong")
    assert json.loads(written[0])["request"] == "r1"


def fail() -> None:
    try:
        raise KeyError(SECRET)  # noqa: TRY301  # it has to have a cause
    except KeyError as error:
        raise ExceptionGroup(SECRET, [ValueError(SECRET), FileNotFoundError(2, "No such file", SECRET)]) from error


@pytest.mark.parametrize("name", ["council", "a.library"])
@pytest.mark.parametrize("terminal", [True, False])
def test_an_exception_is_told_by_kind_and_place_and_never_by_what_it_says(name, terminal, written):
    written_by = form(terminal=terminal)
    lines = []
    handler = Kept(written_by)
    handler.take = lines.append
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        fail()
    except ExceptionGroup as error:
        logger.exception("It failed")
        logger.error("It failed: %s", error)  # noqa: TRY400  # that is the point
        structlog.get_logger(name).exception("It failed: %s", error)
    finally:
        logger.removeHandler(handler)
    for line in lines:
        assert SECRET not in line
        assert "ExceptionGroup" in line
    for line in (lines[0], lines[2]):
        assert all(each in line for each in ("Traceback", "KeyError", "ValueError", "No such file", "in fail"))


@pytest.mark.django_db(transaction=True)
def test_the_database_is_quoted_where_it_is_away_and_not_where_it_refuses_words(written):
    with pytest.raises(IntegrityError) as refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO auth_group (name) VALUES (%s), (%s)", [SECRET, SECRET])
    assert SECRET in str(refused.value)
    logging.getLogger("council").error("Not written", exc_info=refused.value)
    with pytest.raises(psycopg.OperationalError) as away:
        psycopg.connect("host=/nowhere dbname=council password=hidden")
    logging.getLogger("council").error("Not reached: %s", away.value)
    refusal, outage = written
    assert SECRET not in refusal
    assert "SQLSTATE 23505 auth_group_name" in refusal
    assert "/nowhere" in outage
    assert "hidden" not in outage


@pytest.mark.django_db
def test_a_page_that_fails_is_told_by_its_route_without_token_or_words(written, monkeypatch):
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(share_views.Share.objects, "open_to", broken)
    client = Client(raise_request_exception=False)
    assert client.get("/s/a-token-that-opens/?q=golden").status_code == 500
    (line,) = written
    assert "a-token-that-opens" not in line
    assert "golden" not in line
    told = json.loads(line)
    assert (told["route"], told["status"], told["method"]) == ("s/<str:token>/", 500, "GET")
    assert "RuntimeError" in told["exception"]


def test_addresses_of_people_and_paths_of_pages_are_cut_from_what_libraries_say(written):
    logging.getLogger("a.library").error("%s asked https://me:key@example.org/s/token?q=1 twice", "ada@example.org")
    assert json.loads(written[0])["event"] == "…@… asked https://example.org/… twice"


def test_a_task_that_nobody_awaited_is_told_without_its_words(written):
    async def forget() -> None:
        async def broken() -> None:
            raise ValueError(SECRET)

        task = asyncio.ensure_future(broken())
        await asyncio.wait([task])
        del task

    asyncio.run(forget())
    (line,) = written
    assert SECRET not in line
    assert "never retrieved" in line


def test_what_is_no_plain_value_is_named_by_its_kind(written):
    structlog.get_logger("council").warning("Odd", thing=ValueError(SECRET))
    assert json.loads(written[0])["thing"] == "ValueError"


def test_what_a_library_repeats_each_second_is_told_once_in_a_minute():
    seldom = logs.Seldom()
    once, again, later = record(), record(), record()
    again.created, later.created = once.created + 59, once.created + 61
    assert [seldom.filter(each) for each in (once, again, later)] == [True, False, True]


def test_an_exception_that_led_to_itself_is_told_once():
    first, second = ValueError("a"), KeyError("b")
    first.__context__, second.__context__ = second, first
    assert logs._told(first).count("which led to\n") == 1

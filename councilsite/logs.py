"""How logs are written: one JSON object a line, or lines for people at a terminal. Ids, and nobody's words.

What the site says itself names ids and figures. What libraries say passes through here as well, and loses on its way
what may hold a question, an address or a token: messages of exceptions, all but the first part of a web address, paths.
So an exception is written as its kind and where it came from; its message only where that is the machine's own.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from django.core.exceptions import ImproperlyConfigured

FORMATS = ("json", "text")

_WEB_ADDRESS = re.compile(r"\b(\w+://)(?:[^\s/@]*@)?([^\s/]*)/[^\s'\"<>)]+")
_MAIL_ADDRESS = re.compile(r"[^\s<>\"'(=]+@[\w.-]+\.\w+")


def configuration(environ: Mapping[str, str], *, terminal: bool) -> dict[str, Any]:
    """Django's LOGGING, as LOG_FORMAT says: `json`, or `text`, which it is at a terminal unless it is set.

    Raises ImproperlyConfigured for any other word.
    """
    form = environ.get("LOG_FORMAT") or ("text" if terminal else "json")
    if form not in FORMATS:
        raise ImproperlyConfigured(f"LOG_FORMAT is {' or '.join(FORMATS)}, not {form!r}.")
    render = (
        structlog.processors.JSONRenderer(_json)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=terminal, timestamp_key="time", pad_event_to=0)
    )
    _configure_own()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "without_traceback": {"()": "django.utils.log.CallbackFilter", "callback": _without_traceback},
            "seldom": {"()": Seldom},
        },
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*_SHARED, _foreign, structlog.stdlib.PositionalArgumentsFormatter(), _censored],
                "use_get_message": False,
                "pass_foreign_args": True,
                "processors": [_exception, structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "council": {"level": "INFO"},
            "conversations": {"level": "INFO"},
            "councilsite": {"level": "INFO"},
            # They write addresses, and an address can carry a token.
            "httpx": {"level": "WARNING"},
            "django.request": {"level": "ERROR"},
            # One line tells whoever runs the site that SITE_URL is another.
            "django.security.DisallowedHost": {"filters": ["without_traceback"]},
            # It says the same each second for as long as its Redis is away.
            "channels_redis.pubsub": {"filters": ["without_traceback", "seldom"]},
        },
    }


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
]


def _configure_own() -> None:
    """What `structlog.get_logger` gives goes the way of all other loggers."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            _own,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _json(event: dict[str, Any], **_: Any) -> str:
    # What is no plain value is named by its kind: a row, as text, is what somebody wrote.
    first = {name: event[name] for name in ("time", "level", "event")}
    return orjson.dumps({**first, **event}, default=lambda value: type(value).__name__).decode()


class Seldom(logging.Filter):
    """Lets what a logger says through once in a minute."""

    SECONDS = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is time again."""
        last = self._said.get(record.name)
        if last is not None and record.created - last < self.SECONDS:
            return False
        self._said[record.name] = record.created
        return True


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def _own(_logger: Any, _method: str, event: Any) -> Any:
    if given := event.get("positional_args"):
        event["positional_args"] = tuple(_plain(each) for each in given)
    return event


def _foreign(_logger: Any, _method: str, event: Any) -> Any:
    """What a library says, without what it says it of."""
    record = event["_record"]
    given = event["positional_args"]
    given = tuple(_plain(each) for each in given) if isinstance(given, tuple) else (given,)
    if request := getattr(record, "request", None):
        # A path can carry a token; that of the page's address has a name for it in its place.
        route = getattr(getattr(request, "resolver_match", None), "route", None) or "no page"
        path = request.path.encode("unicode_escape").decode("ascii")
        given = tuple(route if each in {request.path, path} else each for each in given)
        event |= {"method": request.method, "route": route, "status": getattr(record, "status_code", None)}
    if record.name == "asyncio":
        event["event"] = event["event"].partition("\n")[0]  # what follows repeats what an exception says
    if record.name.startswith("procrastinate") and isinstance(job := getattr(record, "job", None), dict):
        event |= {"job": job.get("id"), "deliberation": (job.get("task_kwargs") or {}).get("deliberation_id")}
    event["positional_args"] = given
    return event


def _censored(_logger: Any, _method: str, event: Any) -> Any:
    text = _WEB_ADDRESS.sub(r"\1\2/…", str(event["event"]))
    event["event"] = _MAIL_ADDRESS.sub("…@…", text)
    return event


def _plain(value: Any) -> Any:
    return _said(value) if isinstance(value, BaseException) else value


def _exception(_logger: Any, _method: str, event: Any) -> Any:
    """The exception of an event, if it has one, as text."""
    told = event.pop("exc_info", None)
    error = told[1] if isinstance(told, tuple) else sys.exc_info()[1] if told is True else told
    if isinstance(error, BaseException):
        event["exception"] = "".join(_told(error)).rstrip()
    return event


def _told(error: BaseException, indent: str = "", seen: frozenset[int] = frozenset()) -> list[str]:
    """Its causes, where it came from, and what is said of it, as lines. One that led to itself is told once."""
    lines = []
    seen |= {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause and id(cause) not in seen:
        lines += [*_told(cause, indent, seen), f"{indent}which led to\n"]
    if error.__traceback__:
        lines.append(f"{indent}Traceback (most recent call last):\n")
    frames = [f"{indent}{line}\n" for each in traceback.format_tb(error.__traceback__) for line in each.splitlines()]
    lines += [*frames, f"{indent}{_said(error)}\n"]
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            lines += _told(each, indent + "  ", seen) if id(each) not in seen else []
    return lines


def _said(error: BaseException) -> str:
    """The kind of an exception, and what it says where that is not anybody's words."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    said = ""
    if isinstance(error, OSError):
        said = error.strerror or ""  # the rest names files and addresses
    elif isinstance(error, AttributeError | NameError | ImportError | ImproperlyConfigured):
        said = str(error)
    elif kind.__name__ in {"OperationalError", "PoolTimeout"} or hasattr(error, "sqlstate"):
        said = _of_the_database(error)
    return f"{name}: {said}" if said else name


def _of_the_database(error: BaseException) -> str:
    """Why it is away, or its code for what went wrong; its other words quote what was written."""
    code = getattr(error, "sqlstate", None)
    if code is None or code[:2] in {"08", "53", "57"}:
        return str(error).partition("\n")[0]
    constraint = getattr(getattr(error, "diag", None), "constraint_name", None) or ""
    return f"SQLSTATE {code} {constraint}".strip()

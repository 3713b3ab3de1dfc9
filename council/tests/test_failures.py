"""What it means that a provider answers with an error."""

import json

import httpx
import pytest

from council.core import errors
from council.providers import failures
from council.tests.protocol import endpoint, pieces

STATUSES = [
    (400, errors.Rejected, False),
    (401, errors.WrongKey, False),
    (402, errors.NoCredit, False),
    (403, errors.WrongKey, False),
    (404, errors.NotFound, False),
    (408, errors.TimedOutThere, True),
    (409, errors.ServerFailed, True),
    (413, errors.Rejected, False),
    (422, errors.Rejected, False),
    (429, errors.RateLimited, True),
    (500, errors.ServerFailed, True),
    (502, errors.ServerFailed, True),
    (503, errors.ServerFailed, True),
    (504, errors.TimedOutThere, True),
    (522, errors.TimedOutThere, True),
    (524, errors.TimedOutThere, True),
    (529, errors.ServerFailed, True),
    (301, errors.NotTheProtocol, False),
    (307, errors.NotTheProtocol, False),
]


class TestWhatAStatusMeans:
    @pytest.mark.parametrize(("status", "kind", "retry"), STATUSES)
    def test_each_status_has_its_error_and_says_what_the_provider_said(self, status, kind, retry):
        error = failures.meaning(httpx.Response(status), b'{"error": {"message": "The words."}}')
        assert type(error) is kind
        assert error.retry is retry
        assert status < 400 or "The words." in str(error)

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b"null", b'{"error": null}', b'{"error": []}', b"\xff\xfe", b"[" * 20_000]
    )
    def test_an_error_without_words_still_says_something(self, body):
        assert (
            str(failures.meaning(httpx.Response(500), body))
            == "The provider failed on its side (HTTP 500). Try again in a moment."
        )

    def test_words_are_cut_and_can_be_stored(self):
        error = failures.meaning(httpx.Response(400), json.dumps({"error": "\x00\ud800" + "x" * 9000}).encode())
        assert len(str(error)) < 700
        assert "\x00" not in str(error)
        str(error).encode()

    @pytest.mark.parametrize(
        ("words", "with_schema", "kind"),
        [
            ("'response_format' is not supported", True, errors.SchemaRefused),
            ("failed to parse grammar", True, errors.SchemaRefused),
            ("Invalid schema for json_schema", True, errors.SchemaRefused),
            ("'response_format' is not supported", False, errors.Rejected),
            ("This model's maximum context length is 8192 tokens", True, errors.ContextExceeded),
            ("the request exceeds the available context size", False, errors.ContextExceeded),
            ("temperature is not supported", True, errors.Rejected),
        ],
    )
    def test_what_was_rejected_is_told_apart(self, words, with_schema, kind):
        body = json.dumps({"error": {"message": words}}).encode()
        assert type(failures.meaning(httpx.Response(400), body, with_schema=with_schema)) is kind

    @pytest.mark.parametrize(
        ("header", "after"),
        [
            ("1", 1.0),
            ("0", 0.0),
            ("2.5", 2.5),
            ("-3", 0.0),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
            ("", None),
            ("soon", None),
            ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
            ("nan", None),
        ],
    )
    def test_how_long_to_wait(self, header, after):
        error = failures.meaning(httpx.Response(429, headers={"Retry-After": header}), b"")
        assert error.after == after

    async def test_only_the_start_of_an_error_is_read(self, fake):
        fake.script(status=500, body="x" * 5_000_000, headers={"Content-Type": "text/plain"})
        with pytest.raises(errors.ServerFailed):
            await pieces(endpoint(fake.url))

    @pytest.mark.parametrize(
        "answer",
        [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n", b"\x15\x03\x01"],
    )
    async def test_what_is_not_http(self, fake, answer):
        fake.script(raw=[[0, answer]], bare=True)
        with pytest.raises((errors.NotTheProtocol, errors.HungUp)):
            await pieces(endpoint(fake.url))

    async def test_a_header_that_is_no_text(self, fake):
        """The provider had the request: that it cannot be reached would not be so."""
        fake.script(raw=[[0, "HTTP/1.1 429 Übermaß\r\nContent-Length: 0\r\n\r\n".encode("latin-1")]], bare=True)
        with pytest.raises(errors.ProviderError) as raised:
            await pieces(endpoint(fake.url))
        assert raised.value.sent

    async def test_a_body_that_does_not_unpack(self, fake):
        fake.script(raw=[[0, b"not gzip"]], headers={"Content-Encoding": "gzip"})
        with pytest.raises(errors.NotTheProtocol):
            await pieces(endpoint(fake.url))

    async def test_an_error_cut_off_in_its_body(self, fake):
        head = b"HTTP/1.1 500 No\r\nContent-Length: 900\r\nContent-Type: application/json\r\n\r\n{"
        fake.script(raw=[[0, head]], bare=True)
        with pytest.raises(errors.BrokeOff):
            await pieces(endpoint(fake.url))

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:9/v1",
            "http://no.such.host.invalid/v1",
            "http://127.0.0.1:99999/v1",
            "ftp://127.0.0.1/v1",
            "",
        ],
    )
    async def test_an_address_that_leads_nowhere(self, url):
        with pytest.raises(errors.Unreachable, match="cannot be reached"):
            await pieces(endpoint(url))


class TestAnErrorInAStream:
    """It comes after a 200, and its code is what the status would have been."""

    @pytest.mark.parametrize("status", [status for status, _, _ in STATUSES if status >= 400])
    @pytest.mark.parametrize("code", [int, str])
    def test_it_means_what_its_code_means_as_a_status(self, status, code):
        error = {"message": "The words.", "code": code(status)}
        told = failures.in_stream(error)
        as_status = failures.meaning(httpx.Response(status), json.dumps({"error": error}).encode())
        assert type(told) is type(as_status)
        assert (str(told), told.retry, told.fault) == (str(as_status), as_status.retry, as_status.fault)

    @pytest.mark.parametrize(
        "code", ["server_error", "", None, 0, 200, 302, 1302, -400, 400.0, True, [], {}, "\uff14\uff10\uff10"]
    )
    def test_what_is_no_status_tells_against_the_model(self, code):
        error = failures.in_stream({"message": "The words.", "code": code})
        assert type(error) is errors.ServerFailed
        assert str(error) == "The provider reported an error. It says: The words."

    def test_a_schema_that_is_refused_there_is_told_apart_too(self):
        error = {"message": "'response_format' is not supported", "code": 400}
        assert type(failures.in_stream(error, with_schema=True)) is errors.SchemaRefused
        assert type(failures.in_stream(error)) is errors.Rejected

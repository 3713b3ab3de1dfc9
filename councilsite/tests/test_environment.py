import json

import pytest
from django.core.exceptions import ImproperlyConfigured

from councilsite import environment
from councilsite.tests.processes import Program

TELL = """
import json
from django.conf import settings
print(json.dumps({name: getattr(settings, name) for name in dir(settings) if name.isupper()}, default=str))
"""


def settings(tmp_path, **environ):
    """As a process has them that is started with that environment."""
    program = Program("-c", TELL, DJANGO_SETTINGS_MODULE="councilsite.settings", VAR_DIR=str(tmp_path), **environ)
    try:
        assert program.ends() == 0, program.said
    finally:
        program.close()
    return json.loads(program.said)


def test_the_sites_address_says_who_is_let_in_and_how_cookies_are_kept(tmp_path):
    told = settings(tmp_path, SITE_URL="https://council.example.org/")
    assert told["SITE_URL"] == "https://council.example.org"
    assert told["ALLOWED_HOSTS"] == ["council.example.org"]
    assert told["CSRF_TRUSTED_ORIGINS"] == ["https://council.example.org"]
    assert told["SESSION_COOKIE_SECURE"]
    assert told["CSRF_COOKIE_SECURE"]
    assert told["SECURE_SSL_REDIRECT"]
    assert told["DEFAULT_FROM_EMAIL"] == "council@council.example.org"


def test_mail_goes_by_the_server_that_is_named(tmp_path):
    told = settings(tmp_path, EMAIL_HOST="mail.example.org", EMAIL_PORT="2525", EMAIL_USE_TLS="false")
    assert told["EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    assert [told["EMAIL_HOST"], told["EMAIL_PORT"], told["EMAIL_USE_TLS"]] == ["mail.example.org", 2525, False]


def test_port_465_speaks_tls_from_the_first_byte(tmp_path):
    told = settings(tmp_path, EMAIL_HOST="mail.example.org", EMAIL_PORT="465")
    assert (told["EMAIL_USE_SSL"], told["EMAIL_USE_TLS"]) == (True, False)


def test_what_is_set_and_empty_counts_as_not_set(tmp_path):
    names = ("SITE_URL", "PORT", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "DEFAULT_FROM_EMAIL")
    told = settings(tmp_path, **dict.fromkeys(names, ""))
    assert told["SITE_URL"] == "http://localhost:8000"
    assert told["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert told["EMAIL_BACKEND"] == "django.core.mail.backends.console.EmailBackend"
    assert (told["EMAIL_PORT"], told["EMAIL_USE_TLS"], told["EMAIL_USE_SSL"]) == (587, True, False)
    assert told["DEFAULT_FROM_EMAIL"] == "council@localhost"
    assert not told["SESSION_COOKIE_SECURE"]


@pytest.mark.parametrize(
    ("site", "hosts"),
    [
        ("http://127.0.0.1:8000", ["localhost", "127.0.0.1", "[::1]"]),
        ("http://[::1]:8000", ["localhost", "127.0.0.1", "[::1]"]),
        ("http://[fd00::1]", ["[fd00::1]"]),
        ("https://Council.example.org:8443", ["council.example.org"]),
    ],
)
def test_names_are_written_as_they_are_compared(site, hosts):
    assert environment.hosts(environment.site_url({"SITE_URL": site})) == hosts


@pytest.mark.parametrize(
    "site",
    ["council.example.org", "council.example.org:8000", "ftp://council.example.org", "https://", "https://a.example/x",
     "https://a.example?x", "https://bob@a.example", "https://a.example ", "https://*", "https://.a.example",
     "https://bücher.example", "https://a.example:x", "https://a.example:99999", "https://[::1"],
)  # fmt: skip
def test_what_is_no_address_of_a_site_is_refused_with_words(site):
    with pytest.raises(
        ImproperlyConfigured, match=r"SITE_URL must be .* such as https://council\.example\.org, and is"
    ):
        environment.site_url({"SITE_URL": site})


@pytest.mark.parametrize("value", ["x", "-1", "5.5", "²", "0", "65536"])
def test_a_port_that_is_none_is_refused_with_words(value):
    with pytest.raises(ImproperlyConfigured, match="EMAIL_PORT must be the number of a port"):
        environment.port({"EMAIL_PORT": value}, "EMAIL_PORT", 587)


def test_proxies_are_addresses_and_networks():
    given = {"TRUSTED_PROXIES": "10.0.0.5, 10.1.0.0/16 ::1"}
    assert environment.proxies(given) == ["10.0.0.5", "10.1.0.0/16", "::1"]
    assert environment.proxies({"TRUSTED_PROXIES": "*"}) == ["*"]
    assert environment.proxies({"TRUSTED_PROXIES": ""}) == environment.proxies({}) == []


@pytest.mark.parametrize("value", ["proxy", "10.0.0.5, nonsense", "10.0.0.5/8", "10.0.0", "10.0.0.5 *"])
def test_a_proxy_that_is_none_is_refused_with_words(value):
    with pytest.raises(
        ImproperlyConfigured, match=r"TRUSTED_PROXIES must be addresses or networks, such as 10\.0\.0\.5"
    ):
        environment.proxies({"TRUSTED_PROXIES": value})


def test_a_word_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(ImproperlyConfigured, match="EMAIL_USE_TLS must be true or false, and is 'on'"):
        environment.yes({"EMAIL_USE_TLS": "on"}, "EMAIL_USE_TLS", default=True)

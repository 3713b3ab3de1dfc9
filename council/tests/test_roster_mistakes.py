"""A roster's file with a mistake: nothing is loaded, and each mistake is told with its line."""

import re

import pytest
from django.core.management import CommandError, call_command

from council.roster import loading, reading
from council.tests.roster_files import ROSTER, SEATS

pytestmark = pytest.mark.django_db

MISTAKES = {
    # what is replaced, by what, and what is said in its line
    "unknown key": ("context = 400_000", "contxt = 400_000", "model “big”, contxt: unknown. A model has slug,"),
    "type": ("context = 400_000", 'context = "400_000"', "model “big”, context: This must be a whole number."),
    "truth": ("enabled = true", "enabled = 1", "model “big”, enabled: This must be true or false."),
    "no number": ("input_price = 1_250_000", "input_price = true", "input_price: This must be a whole number."),
    "negative": ("input_price = 1_250_000", "input_price = -1", "model “big”, input_price: "),
    "too big": ("context = 400_000", "context = 99999999999999999999", "model “big”, context: "),
    "too small": ("context = 400_000", "context = 511", "model “big”, context: "),
    "choice": ('kind = "compatible"', 'kind = "other"', "kind: This must be one of openrouter, openai, compatible"),
    "address": ('base_url = "https://models', 'base_url = "ftp://models', "“acme”, base_url: Enter an address"),
    "private address": (
        "https://models.acme.example/v1",
        "http://10.0.0.5/v1",
        "“acme”, base_url: This is on this machine or in a private network. Say so: private_address = true",
    ),
    "no address": (
        'base_url = "https://models.acme.example/v1"',
        'base_url = ""',
        "“acme”, base_url: A provider needs an address.",
    ),
    "long address": ("models.acme.example/v1", "models.acme.example/v1" + "x" * 200, "base_url: This is too long"),
    "variable": ('"ACME_KEY"', '"ACME KEY"', "api_key_env: Enter the name of an environment variable."),
    "provider": ('provider = "acme"', 'provider = "acmee"', "model “big”, provider: There is no provider “acmee”"),
    "slug": ('slug = "big"', 'slug = "big model"', "model “big model”, slug: "),
    "blank": ('name = "Big"', 'name = ""', "model “big”, name: "),
    "long": ('name = "Big"', f'name = "{"x" * 101}"', "model “big”, name: "),
    "nul": ('name = "Big"', r'name = "B\u0000g"', "model “big”, name: A NUL character cannot be stored."),
    "turned": ('name = "Big"', r'name = "\u202eBig"', "model “big”, name: This holds characters that are not seen"),
    "duplicate": ('slug = "small"', 'slug = "big"', "model “big”, slug: is there already, on line 10."),
    "same model": ('model_id = "acme/small"', 'model_id = "acme/big"', "acme has this model already, as “big”."),
    "member": (
        'members = ["big", "small"]',
        'members = ["big", "no"]',
        "council “ours”, members: There is no model “no”",
    ),
    "one member": (
        'members = ["big", "small"]',
        'members = ["big"]',
        "council “ours”, members: A council needs at least two",
    ),
    "no member": (
        'members = ["big", "small"]',
        "members = []",
        "council “ours”, members: A council needs at least two",
    ),
    "member type": (
        'members = ["big", "small"]',
        "members = [1, 2]",
        "members: This must be a list of texts in quotes.",
    ),
    "member off": ("enabled = true", "enabled = false", "council “ours”, members: A council needs at least two"),
    "no chairman": ('chairman = "big"', "", "council “ours”, chairman: A council needs a chairman."),
    "chairman": ('chairman = "big"', 'chairman = "no"', "council “ours”, chairman: There is no model “no”"),
    "default off": (
        "default = true",
        "default = true\nenabled = false",
        "“ours”, default: The default council must be enabled.",
    ),
    "no slug": ('slug = "small"\n', "", "model without a slug, slug: missing."),
    "no name": ('name = "Our council"\n', "", "council “ours”, name: missing."),
    "kind of table": ("[[providers]]", "[providers]", "providers: each is written below a line [[providers]]."),
    "unknown table": ("[[councils]]", "[[council]]", "council: unknown. A roster has providers, models and councils."),
    "group": ("default = true", f'groups = ["{"x" * 200}"]', "council “ours”, groups: "),
    "seat": (
        'seat = "B"',
        'seat = "C"',
        "council “ours”, seats.seat: There is no seat “C”. This council has A, B, chairman.",
    ),
    "seat twice": ('seat = "chairman"', 'seat = "B"', "council “ours”, seats.seat: Seat “B” is there already."),
    "seat key": ("temperature = 0.5", "temprature = 0.5", "council “ours”, seats.temprature: unknown."),
    "seat type": (
        "temperature = 0.5",
        'temperature = "warm"',
        "council “ours”, seats.temperature: This must be a number.",
    ),
    "hot": ("temperature = 0.5", "temperature = 2.5", "council “ours”, seats.temperature: "),
    "not a number": (
        "temperature = 0.5",
        "temperature = nan",
        "council “ours”, seats.temperature: This must be a number.",
    ),
    "endless": ("temperature = 0.5", "temperature = 1" + "0" * 400, "council “ours”, seats.temperature: "),
    "long prompt": ('"You sum up."', f'"{"x" * 8001}"', "seats.system_prompt: This is too long: 8,000 characters fit."),
    "no TOML": ('name = "Big"', "name = Big", "This is not TOML: "),
}
# What is missing is told where its table begins; what is wrong with another table, there.
ELSEWHERE = {
    "no slug": '[[models]]\nslug = "small"',
    "no name": "[[councils]]",
    "no chairman": "[[councils]]",
    "member off": "members =",
}


def line(text: str, part: str) -> int:
    """The line on which a part of a text stands."""
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize("mistake", MISTAKES)
def test_it_names_file_line_key_and_slug_and_loads_nothing(refused, tmp_path, mistake):
    old, new, words = MISTAKES[mistake]
    said = refused((ROSTER + SEATS).replace(old, new, 1))
    at = line(ROSTER + SEATS, ELSEWHERE.get(mistake, old))
    assert re.search(rf"^{re.escape(str(tmp_path))}/roster\.toml:{at}: .*{re.escape(words)}", said, re.MULTILINE)


def test_it_tells_all_of_them(refused):
    text = ROSTER.replace('"acme/small"', "7").replace('name = "Small"', "nam = 1")
    said = refused(text)
    assert f":{line(text, 'model_id = 7')}: model “small”, model_id: This must be a text" in said
    assert f":{line(text, 'nam = 1')}: model “small”, nam: unknown" in said
    assert "model “small”, name: missing" in said
    said = refused(ROSTER.replace("context = 400_000", "context = 1").replace("acme/small", ""))
    assert "model “big”, context: " in said
    assert "model “small”, model_id: " in said


def test_a_model_that_another_slug_has_in_the_database(load, refused):
    load(ROSTER)
    new = '[[models]]\nslug = "third"\nprovider = "acme"\nname = "Third"\nmodel_id = "acme/big"\n'
    assert ":5: model “third”, model_id: acme has this model already, as “big”." in refused(new)


def test_two_defaults(refused):
    second = ROSTER[ROSTER.index("[[councils]]") :].replace('"ours"', '"theirs"')
    said = refused(ROSTER + second)
    assert "council “theirs”, default: There is one default council, and “ours” is it already." in said


def test_a_member_whose_provider_is_switched_off(refused):
    said = refused(ROSTER.replace('name = "Acme"', 'name = "Acme"\nenabled = false'))
    assert "council “ours”, members: A council needs at least two members whose model is approved and enabled" in said
    assert "council “ours”, chairman: The chairman's model" in said


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"slug = 'x", b"\x00"])
def test_what_is_no_toml(refused, text):
    assert "roster.toml:1: This is not" in refused(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("roster", "load", str(tmp_path / "none.toml"))
    with pytest.raises(CommandError, match="cannot be read: Is a directory"):
        call_command("roster", "load", str(tmp_path))


@pytest.mark.parametrize("address", ["http://[", "http://x:99999", "https://models acme.example"])
def test_an_address_that_is_none_for_a_provider_that_has_a_key(load, refused, monkeypatch, address):
    load(ROSTER)
    monkeypatch.delenv("ACME_KEY")
    assert "base_url: Enter an address" in refused(ROSTER.replace("https://models.acme.example/v1", address))


def test_an_empty_file_changes_nothing(load):
    assert "changes nothing" in load("")


def test_a_fallback_model_that_nobody_knows_or_that_stands_twice_is_a_mistake():
    text = ROSTER + 'fallbacks = ["huge", "small", "small"]\n'
    with pytest.raises(reading.Wrong) as raised:
        loading.load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
    assert "There is no model “huge”" in str(raised.value)
    assert "A model stands here twice." in str(raised.value)


class TestLines:
    """A mistake stands where it is said to, however the file is written."""

    def lines(self, text: str) -> list[tuple[str, dict[str, int]]]:
        entries = reading.read(text.encode(), reading.Mistakes("x"))
        return [(each.slug, each.lines) for kind in entries.values() for each in kind]

    def test_after_texts_and_lists_of_several_lines(self):
        text = """
[[councils]] # one
slug = "a"
name = '''
slug = "not this"
[[councils]]
'''
members = [
  "x", # members = 1
  "y",
]
default = false

  [[ councils ]]
"slug" = "b"
name = "B"
"""
        assert self.lines(text) == [
            ("a", {"": 2, "slug": 3, "name": 4, "members": 8, "default": 12}),
            ("b", {"": 14, "slug": 15, "name": 16}),
        ]

    def test_of_tables_that_are_mixed(self):
        text = '[[councils]]\nslug="a"\nname="A"\n[[providers]]\nslug="p"\nname="P"\n[[councils]]\nslug="b"\nname="B"'
        found = self.lines(text)
        assert [(slug, lines[""]) for slug, lines in found] == [("p", 4), ("a", 1), ("b", 7)]

    def test_of_tables_in_one_line(self):
        found = self.lines('# here\n\nproviders = [{slug = "p", name = "P"}, {slug = "q", name = "Q"}]')
        assert [(slug, lines["name"]) for slug, lines in found] == [("p", 3), ("q", 3)]

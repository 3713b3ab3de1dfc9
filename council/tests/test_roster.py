"""`manage.py roster load` and `manage.py roster dump`."""

import re
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from council import defaults, plans
from council.core.values import Mode
from council.models import Council, Deliberation, LanguageModel, Provider, Seat
from council.roster import reading, values
from council.roster.loading import load
from council.tests import rosters

pytestmark = pytest.mark.django_db

ROSTER = """\
# Ours.
[[providers]]
slug = "acme"
name = "Acme"
kind = "compatible"
base_url = "https://models.acme.example/v1"
api_key_env = "ACME_KEY"

[[models]]
slug = "big"
provider = "acme"
model_id = "acme/big"
name = "Big"
input_price = 1_250_000
output_price = 10_000_000
context = 400_000
max_output = 32_000
enabled = true

[[models]]
slug = "small"
provider = "acme"
model_id = "acme/small"
name = "Small"

[[councils]]
slug = "ours"
name = "Our council"
members = ["big", "small"]
chairman = "big"
default = true
"""
SEATS = """
[[councils.seats]]
seat = "B"
name = "The careful one"
temperature = 0.5
system_prompt = \"\"\"
You doubt.
Say "why".
\"\"\"

[[councils.seats]]
seat = "chairman"
system_prompt = "You sum up."
"""
DUMPED = """\
[[providers]]
slug = "acme"
name = "Acme"
kind = "compatible"
base_url = "https://models.acme.example/v1"
api_key_env = "ACME_KEY"

[[models]]
slug = "big"
provider = "acme"
model_id = "acme/big"
name = "Big"
input_price = 1250000
output_price = 10000000
context = 400000
max_output = 32000
enabled = true

[[models]]
slug = "small"
provider = "acme"
model_id = "acme/small"
name = "Small"
context = 32768
enabled = true

[[councils]]
slug = "ours"
name = "Our council"
members = [
    "big",
    "small",
]
chairman = "big"
default = true
groups = []

[[councils.seats]]
seat = "B"
name = "The careful one"
system_prompt = \"\"\"
You doubt.
Say \\"why\\".
\"\"\"
temperature = 0.5

[[councils.seats]]
seat = "chairman"
system_prompt = "You sum up."
"""
KEY = "sk-from-the-environment-0123"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("ACME_KEY", KEY)


@pytest.fixture(name="load")
def _load(tmp_path):
    """Load a text; returns what the command says."""

    def load(text: str | bytes, *options: str) -> str:
        file = tmp_path / "roster.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        output = StringIO()
        call_command("roster", "load", str(file), *options, stdout=output)
        return output.getvalue()

    return load


@pytest.fixture(name="refused")
def _refused(load):
    """Load a text that is refused; returns why. Nothing is written."""

    def refused(text: str | bytes) -> str:
        before = everything()
        with pytest.raises(CommandError) as caught:
            load(text)
        assert caught.value.returncode == 1
        assert everything() == before
        assert "Nothing was changed." in str(caught.value)
        return str(caught.value)

    return refused


def dump() -> str:
    output = StringIO()
    call_command("roster", "dump", stdout=output)
    return output.getvalue()


def everything() -> list:
    """All rows of the roster, keys and seats too."""
    found = [list(model.objects.order_by("pk").values()) for model in (Provider, LanguageModel, Seat, Group)]
    return [*found, [(row.pk, values.of_council(row)) for row in Council.objects.order_by("pk")]]


def empty() -> None:
    for model in (Council, LanguageModel, Provider, Group):
        model.objects.all().delete()


def line(text: str, part: str) -> int:
    """The line on which a part of a text stands."""
    return text[: text.index(part)].count("\n") + 1


class TestLoading:
    def test_it_makes_what_the_file_says(self, load):
        said = load(ROSTER + SEATS)
        provider = Provider.objects.get()
        assert (provider.slug, provider.kind, provider.base_url) == (
            "acme",
            "compatible",
            "https://models.acme.example/v1",
        )
        assert provider.api_key == KEY
        big = LanguageModel.objects.get(slug="big")
        assert (big.input_price, big.output_price, big.context, big.max_output) == (
            1_250_000,
            10_000_000,
            400_000,
            32_000,
        )
        small = LanguageModel.objects.get(slug="small")
        assert (small.input_price, small.max_output, small.context, small.enabled) == (None, None, 32_768, True)
        council = Council.objects.get()
        assert council.default
        seats = [(each.role, each.language_model.slug, each.name, each.temperature) for each in council.seats.all()]
        assert seats == [
            ("member", "big", "", None),
            ("member", "small", "The careful one", 0.5),
            ("chairman", "big", "", None),
        ]
        assert council.seats.get(position=1).system_prompt == 'You doubt.\nSay "why".\n'
        assert plans.line_up(council)
        assert "4 new" in said

    def test_it_says_what_it_made_and_never_a_key(self, load):
        said = load(ROSTER)
        assert '+ model big\n    provider: "acme"\n    model_id: "acme/big"' in said
        assert 'members: ["big", "small"]' in said
        assert 'API key: "from ACME_KEY"' in said
        assert KEY not in said

    def test_loading_twice_changes_nothing_and_says_so(self, load):
        load(ROSTER + SEATS)
        before = everything()
        said = load(ROSTER + SEATS)
        assert everything() == before
        assert "changes nothing" in said
        assert "+" not in said
        assert "~" not in said

    def test_it_says_what_it_changed(self, load):
        load(ROSTER + SEATS)
        changed = ROSTER.replace("1_250_000", "1_000_000").replace('"Our council"', '"Ours"') + SEATS.replace(
            "0.5", "0.7"
        )
        said = load(changed)
        assert "~ model big\n    input_price: 1250000 -> 1000000\n" in said
        assert '~ council ours\n    name: "Our council" -> "Ours"\n    seats.B.temperature: 0.5 -> 0.7\n' in said
        assert "0 new, 2 changed, 2 as they were" in said
        assert LanguageModel.objects.get(slug="big").input_price == 1_000_000
        assert Seat.objects.get(name="The careful one").temperature == 0.7

    def test_a_dry_run_says_the_same_and_writes_nothing(self, load):
        rosters.council(rosters.provider(), default=True)
        before = everything()
        said = load(ROSTER + SEATS, "--dry-run")
        assert everything() == before
        assert "Nothing was changed" in said
        *would, _ = said.splitlines()
        *did, _ = load(ROSTER + SEATS).splitlines()
        assert would == did
        assert everything() != before

    def test_a_dry_run_finds_the_mistakes(self, load):
        with pytest.raises(CommandError, match="neither in this file nor"):
            load(ROSTER.replace('["big", "small"]', '["big", "large"]'), "--dry-run")

    def test_a_key_that_is_left_out_is_its_default(self, load):
        load(ROSTER)
        said = load(ROSTER.replace("max_output = 32_000\n", "").replace("context = 400_000\n", ""))
        assert "max_output: 32000 -> nothing" in said
        big = LanguageModel.objects.get(slug="big")
        assert (big.context, big.max_output) == (32_768, None)

    def test_what_the_file_does_not_name_is_left_alone_and_said_so(self, load):
        rosters.council(rosters.provider())
        before = [everything()[place][:1] for place in range(3)]
        said = load(ROSTER)
        assert [everything()[place][:1] for place in range(3)] == before
        assert "provider fake" in said
        assert "model fake-alpha" in said
        assert "council test" in said

    def test_a_file_may_build_on_what_is_in_the_database(self, load):
        rosters.council(rosters.provider())
        load(
            '[[councils]]\nslug = "new"\nname = "New"\nmembers = ["fake-alpha", "fake-beta"]\nchairman = "fake-gamma"\n'
        )
        assert plans.line_up(Council.objects.get(slug="new"))

    def test_what_was_learnt_of_a_model_stays(self, load):
        load(ROSTER)
        LanguageModel.objects.update(tokens_per_byte=0.21)
        load(ROSTER.replace('"Big"', '"Bigger"'))
        assert LanguageModel.objects.get(slug="big").tokens_per_byte == 0.21

    def test_the_default_goes_from_one_council_to_another(self, load):
        rosters.council(rosters.provider(), default=True)
        said = load(ROSTER)
        assert "~ council test\n    default: true -> false" in said
        assert "council test" not in said[said.index("left as they are") :]
        assert [each.slug for each in Council.objects.filter(default=True)] == ["ours"]
        load(ROSTER + ROSTER[ROSTER.index("[[councils]]") :].replace("ours", "theirs").replace("true", "false"))
        both = ROSTER[ROSTER.index("[[councils]]") :]
        load(both.replace("true", "false") + both.replace('"ours"', '"theirs"'))
        assert [each.slug for each in Council.objects.filter(default=True)] == ["theirs"]

    def test_two_models_may_change_places(self, load):
        load(ROSTER)
        load(ROSTER.replace("acme/big", "x").replace("acme/small", "acme/big").replace('"x"', '"acme/small"'))
        assert dict(LanguageModel.objects.values_list("slug", "model_id")) == {"big": "acme/small", "small": "acme/big"}

    def test_a_past_deliberation_stays_as_it_was(self, load):
        load(ROSTER)
        council = Council.objects.get()
        deliberation = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        deliberation.save()
        before = Deliberation.objects.values().get()
        load(
            ROSTER.replace('"Big"', '"Other"').replace('["big", "small"]', '["small", "big"]').replace("acme/big", "x")
        )
        assert Deliberation.objects.values().get() == before

    def test_groups_are_made_and_left_alone_where_the_file_is_silent(self, load):
        load(ROSTER.replace("default = true", 'default = true\ngroups = ["legal", "sales"]'))
        assert [each.name for each in Council.objects.get().groups.order_by("name")] == ["legal", "sales"]
        assert "changes nothing" in load(ROSTER)
        load(ROSTER.replace("default = true", "default = true\ngroups = []"))
        assert not Council.objects.get().groups.exists()
        assert Group.objects.count() == 2

    def test_a_council_that_is_switched_off_may_be_incomplete(self, load):
        load(ROSTER.replace('["big", "small"]', '["big"]').replace("default = true", "enabled = false"))
        assert not Council.objects.get().enabled

    def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(self, load):
        load(ROSTER + SEATS)
        assert "changes nothing" in load(b"\xef\xbb\xbf" + (ROSTER + SEATS).replace("\n", "\r\n").encode())


@pytest.mark.django_db(transaction=True)
def test_of_several_that_load_at_once_each_but_the_first_finds_all_done():
    def one(_number: int) -> int:
        try:
            return len(load(ROSTER.encode(), "roster.toml", {"ACME_KEY": KEY}).differences)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [0, 0, 0, 4]


class TestKeys:
    def test_one_that_is_missing_is_a_mistake_where_none_is_stored(self, refused, monkeypatch):
        monkeypatch.delenv("ACME_KEY")
        assert "provider “acme”, api_key_env: The environment has no ACME_KEY." in refused(ROSTER)
        monkeypatch.setenv("ACME_KEY", "")
        assert "The environment has no ACME_KEY." in refused(ROSTER)

    def test_one_that_is_missing_leaves_what_is_stored_and_says_so(self, load, monkeypatch):
        load(ROSTER)
        monkeypatch.delenv("ACME_KEY")
        assert "acme keeps the key that is stored" in load(ROSTER)
        assert Provider.objects.get().api_key == KEY

    def test_another_one_takes_its_place(self, load, monkeypatch):
        load(ROSTER)
        monkeypatch.setenv("ACME_KEY", "sk-rotated-0123456789")
        said = load(ROSTER)
        assert "~ provider acme\n    API key" in said
        assert Provider.objects.get().api_key == "sk-rotated-0123456789"
        assert "sk-" not in said

    def test_a_provider_without_one_needs_none(self, load):
        load(ROSTER.replace('api_key_env = "ACME_KEY"\n', ""))
        assert Provider.objects.get().api_key == ""

    def test_one_that_was_typed_in_stays_where_the_file_names_none(self, load):
        load(ROSTER)
        load(ROSTER.replace('api_key_env = "ACME_KEY"\n', ""))
        assert Provider.objects.get().api_key == KEY

    def test_one_that_cannot_be_read_any_more_is_replaced(self, load, settings):
        load(ROSTER)
        settings.FIELD_KEYS = ["b3RoZXIga2V5LCBhbHNvIG9ubHkgZm9yIHRlc3RzISE="]
        load(ROSTER)
        assert Provider.objects.get().api_key == KEY

    def test_what_cannot_be_a_key_is_refused_and_not_repeated(self, refused, monkeypatch):
        monkeypatch.setenv("ACME_KEY", "sk with spaces")
        said = refused(ROSTER)
        assert "ACME_KEY: This holds characters that no key has." in said
        assert "sk with" not in said

    def test_it_does_not_go_to_another_host_unknowingly(self, load, refused, monkeypatch):
        load(ROSTER)
        moved = ROSTER.replace("models.acme.example", "evil.example")
        monkeypatch.delenv("ACME_KEY")
        assert "base_url: This is another host than before." in refused(moved)
        monkeypatch.setenv("ACME_KEY", KEY)
        load(moved)
        assert Provider.objects.get().base_url == "https://evil.example/v1"


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


class TestMistakes:
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_it_names_file_line_key_and_slug_and_loads_nothing(self, refused, tmp_path, mistake):
        old, new, words = MISTAKES[mistake]
        said = refused((ROSTER + SEATS).replace(old, new, 1))
        at = line(ROSTER + SEATS, ELSEWHERE.get(mistake, old))
        assert re.search(rf"^{re.escape(str(tmp_path))}/roster\.toml:{at}: .*{re.escape(words)}", said, re.MULTILINE)

    def test_it_tells_all_of_them(self, refused):
        text = ROSTER.replace('"acme/small"', "7").replace('name = "Small"', "nam = 1")
        said = refused(text)
        assert f":{line(text, 'model_id = 7')}: model “small”, model_id: This must be a text" in said
        assert f":{line(text, 'nam = 1')}: model “small”, nam: unknown" in said
        assert "model “small”, name: missing" in said
        said = refused(ROSTER.replace("context = 400_000", "context = 1").replace("acme/small", ""))
        assert "model “big”, context: " in said
        assert "model “small”, model_id: " in said

    def test_a_model_that_another_slug_has_in_the_database(self, load, refused):
        load(ROSTER)
        new = '[[models]]\nslug = "third"\nprovider = "acme"\nname = "Third"\nmodel_id = "acme/big"\n'
        assert ":5: model “third”, model_id: acme has this model already, as “big”." in refused(new)

    def test_two_defaults(self, refused):
        second = ROSTER[ROSTER.index("[[councils]]") :].replace('"ours"', '"theirs"')
        said = refused(ROSTER + second)
        assert "council “theirs”, default: There is one default council, and “ours” is it already." in said

    def test_a_member_whose_provider_is_switched_off(self, refused):
        said = refused(ROSTER.replace('name = "Acme"', 'name = "Acme"\nenabled = false'))
        assert (
            "council “ours”, members: A council needs at least two members whose model and provider are enabled" in said
        )
        assert "council “ours”, chairman: The chairman's model" in said

    @pytest.mark.parametrize("text", [b"\xff\xfe", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000, b"slug = 'x", b"\x00"])
    def test_what_is_no_toml(self, refused, text):
        assert "roster.toml:1: This is not" in refused(text)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(CommandError, match="cannot be read: No such file"):
            call_command("roster", "load", str(tmp_path / "none.toml"))
        with pytest.raises(CommandError, match="cannot be read: Is a directory"):
            call_command("roster", "load", str(tmp_path))

    @pytest.mark.parametrize("address", ["http://[", "http://x:99999", "https://models acme.example"])
    def test_an_address_that_is_none_for_a_provider_that_has_a_key(self, load, refused, monkeypatch, address):
        load(ROSTER)
        monkeypatch.delenv("ACME_KEY")
        assert "base_url: Enter an address" in refused(ROSTER.replace("https://models.acme.example/v1", address))

    def test_an_empty_file_changes_nothing(self, load):
        assert "changes nothing" in load("")


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


class TestDumping:
    def test_a_dump_loads_as_the_same_roster(self, load, monkeypatch):
        monkeypatch.setattr(defaults.settings, "OPENROUTER_API_KEY", "sk-or")
        monkeypatch.setattr(defaults, "_refresh", lambda: None)
        defaults.ensure_council(practice=True)
        rosters.provider(slug="local", api_key="")
        LanguageModel.objects.filter(slug="grok-4").update(
            input_price=None,
            max_output=1234,
            enabled=False,
            temperature=False,
            json_schema=False,
            usage_in_stream=False,
            images=True,
            max_tokens_field="max_completion_tokens",
            effort="high",
            first_token_seconds=1,
            between_tokens_seconds=2,
            call_seconds=3,
        )
        Provider.objects.filter(slug="practice").update(enabled=False)
        practice = Council.objects.get(slug="practice")
        practice.groups.add(Group.objects.create(name='legal "and" sales'))
        Council.objects.filter(pk=practice.pk).update(enabled=False)
        load(ROSTER + SEATS)
        monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or")
        before, text = described(), dump()
        assert "changes nothing" in load(text)
        empty()
        load(text)
        assert described() == before
        assert dump() == text

    def test_it_holds_no_key(self, load):
        load(ROSTER)
        rosters.provider()
        text = dump()
        assert KEY not in text
        assert rosters.KEY not in text
        assert Provider.objects.get(slug="acme").api_key == KEY

    def test_it_names_the_variable_that_was_loaded_or_one_after_the_slug(self, load):
        load(ROSTER)
        rosters.provider(slug="my-host")
        rosters.provider(slug="local", api_key="")
        assert re.findall(r"api_key_env = .*", dump()) == [
            'api_key_env = "ACME_KEY"',
            'api_key_env = "MY_HOST_API_KEY"',
        ]

    def test_it_works_where_a_key_cannot_be_read(self, load, settings):
        load(ROSTER)
        settings.FIELD_KEYS = ["b3RoZXIga2V5LCBhbHNvIG9ubHkgZm9yIHRlc3RzISE="]
        assert '"ACME_KEY"' in dump()

    def test_it_is_written_as_people_write_it(self, load):
        load(ROSTER + SEATS)
        assert dump().partition("\n\n")[2] == DUMPED

    def test_a_prompt_from_a_browser_is_written_in_lines(self, load):
        load(ROSTER + SEATS)
        Seat.objects.filter(role="chairman").update(system_prompt="One.\r\nTwo.")
        text = dump()
        assert '"""\nOne.\nTwo."""' in text
        assert "changes nothing" in load(text)

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40))
    def test_any_text_comes_through(self, text):
        written = f"[[councils]]\nslug = 'a'\nname = 'A'\n[[councils.seats]]\nseat = 'A'\n{tables('seats', text)}"
        (council,) = reading.read(written.encode(), reading.Mistakes("x"))["councils"]
        assert council.values["seats"][0].values["system_prompt"] == text

    def test_limits_and_fallback_models_load_and_dump(self):
        text = ROSTER.replace('slug = "acme"\n', 'slug = "acme"\nconcurrency = 4\n')
        text += 'fallbacks = ["small", "big"]\nchairman_fallbacks = ["small"]\n'
        load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
        assert Provider.objects.get().concurrency == 4
        assert list(Council.objects.get().fallbacks.values_list("role", "position", "language_model__slug")) == [
            ("member", 0, "small"),
            ("chairman", 0, "small"),
            ("member", 1, "big"),
        ]
        dumped = dump()
        assert "concurrency = 4" in dumped
        again = load(dumped.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
        assert not again.differences
        text = text.replace('fallbacks = ["small", "big"]\n', "", 1)
        (changed,) = load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"}).differences
        assert changed.changes == [("fallbacks", ["small", "big"], [])]
        assert Council.objects.get().fallbacks.count() == 1

    def test_a_fallback_model_that_nobody_knows_or_that_stands_twice_is_a_mistake(self):
        text = ROSTER + 'fallbacks = ["huge", "small", "small"]\n'
        with pytest.raises(reading.Wrong) as raised:
            load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
        assert "There is no model “huge”" in str(raised.value)
        assert "A model stands here twice." in str(raised.value)

    def test_the_file_has_every_field_of_the_roster(self):
        """A field that is added later is in the file, or is said here not to be."""
        left_out = {"id", "api_key", "tokens_per_byte", "council", "role", "position", "language_model"}
        for kind, model in values.MODELS.items():
            fields = {each.name for each in (*model._meta.concrete_fields, *model._meta.many_to_many)}
            assert fields - left_out <= set(values.FIELDS[kind])

    def test_the_documentation_names_each_key(self):
        text = (Path(__file__).resolve().parents[2] / "docs" / "roster.md").read_text()
        for kind, keys in values.FIELDS.items():
            header = "[[councils.seats]]" if kind == "seats" else f"[[{kind}]]"
            (section,) = re.findall(
                rf"^## {re.escape(f'`{header}`')}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
            )
            told = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
            assert [*told] == [each for each in keys if each != "seats"], kind


def tables(kind: str, prompt: str) -> str:
    from council.roster.dumping import _table

    return _table(kind, {"system_prompt": prompt}).partition("\n")[2]


def described() -> list:
    return [
        *[values.of_provider(row) for row in Provider.objects.order_by("slug")],
        *[values.of_model(row) for row in LanguageModel.objects.order_by("slug")],
        *[values.of_council(row) for row in Council.objects.order_by("slug")],
    ]

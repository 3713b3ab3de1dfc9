"""`manage.py roster dump`: a file that loads as the same roster, and the keys that such a file has."""

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from hypothesis import given
from hypothesis import strategies as st

from council import defaults
from council.models import Council, LanguageModel, Provider, Seat
from council.roster import loading, reading, values
from council.tests import rosters
from council.tests.roster_files import KEY, ROSTER, SEATS, dump

pytestmark = pytest.mark.django_db

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
approval = "approved"

[[models]]
slug = "small"
provider = "acme"
model_id = "acme/small"
name = "Small"
context = 32768
enabled = true
approval = "approved"

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


def empty() -> None:
    for model in (Council, LanguageModel, Provider, Group):
        model.objects.all().delete()


def test_a_dump_loads_as_the_same_roster(load, monkeypatch):
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


def test_it_holds_no_key(load):
    load(ROSTER)
    rosters.provider()
    text = dump()
    assert KEY not in text
    assert rosters.KEY not in text
    assert Provider.objects.get(slug="acme").api_key == KEY


def test_it_names_the_variable_that_was_loaded_or_one_after_the_slug(load):
    load(ROSTER)
    rosters.provider(slug="my-host")
    rosters.provider(slug="local", api_key="")
    assert re.findall(r"api_key_env = .*", dump()) == [
        'api_key_env = "ACME_KEY"',
        'api_key_env = "MY_HOST_API_KEY"',
    ]


def test_it_works_where_a_key_cannot_be_read(load, settings):
    load(ROSTER)
    settings.FIELD_KEYS = ["b3RoZXIga2V5LCBhbHNvIG9ubHkgZm9yIHRlc3RzISE="]
    assert '"ACME_KEY"' in dump()


def test_it_is_written_as_people_write_it(load):
    load(ROSTER + SEATS)
    assert dump().partition("\n\n")[2] == DUMPED


def test_a_prompt_from_a_browser_is_written_in_lines(load):
    load(ROSTER + SEATS)
    Seat.objects.filter(role="chairman").update(system_prompt="One.\r\nTwo.")
    text = dump()
    assert '"""\nOne.\nTwo."""' in text
    assert "changes nothing" in load(text)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=40))
def test_any_text_comes_through(text):
    written = f"[[councils]]\nslug = 'a'\nname = 'A'\n[[councils.seats]]\nseat = 'A'\n{tables('seats', text)}"
    (council,) = reading.read(written.encode(), reading.Mistakes("x"))["councils"]
    assert council.values["seats"][0].values["system_prompt"] == text


def test_limits_and_fallback_models_load_and_dump():
    text = ROSTER.replace('slug = "acme"\n', 'slug = "acme"\nconcurrency = 4\n')
    text += 'fallbacks = ["small", "big"]\nchairman_fallbacks = ["small"]\n'
    loading.load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
    assert Provider.objects.get().concurrency == 4
    assert list(Council.objects.get().fallbacks.values_list("role", "position", "language_model__slug")) == [
        ("member", 0, "small"),
        ("chairman", 0, "small"),
        ("member", 1, "big"),
    ]
    dumped = dump()
    assert "concurrency = 4" in dumped
    again = loading.load(dumped.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"})
    assert not again.differences
    text = text.replace('fallbacks = ["small", "big"]\n', "", 1)
    (changed,) = loading.load(text.encode(), "roster.toml", {"ACME_KEY": "sk-1234567890"}).differences
    assert changed.changes == [("fallbacks", ["small", "big"], [])]
    assert Council.objects.get().fallbacks.count() == 1


def test_the_file_has_every_field_of_the_roster():
    """A field that is added later is in the file, or is said here not to be."""
    left_out = {"id", "api_key", "tokens_per_byte", "council", "role", "position", "language_model"}
    left_out |= {"decided", "decided_by"}
    for kind, model in values.MODELS.items():
        fields = {each.name for each in (*model._meta.concrete_fields, *model._meta.many_to_many)}
        assert fields - left_out <= set(values.FIELDS[kind])


def test_the_documentation_names_each_key():
    text = (Path(__file__).resolve().parents[2] / "docs" / "roster.md").read_text()
    for kind, keys in values.FIELDS.items():
        header = "[[councils.seats]]" if kind == "seats" else f"[[{kind}]]"
        (section,) = re.findall(rf"^## {re.escape(f'`{header}`')}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
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

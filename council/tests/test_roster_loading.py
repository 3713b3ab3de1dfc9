"""`manage.py roster load`: what a file makes, changes and leaves alone."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError
from django.db import connection

from accounts.models import User
from council import plans
from council.core.values import Mode
from council.models import Council, Deliberation, LanguageModel, Provider, Seat
from council.roster import loading
from council.tests import rosters
from council.tests.roster_files import KEY, ROSTER, SEATS, everything

pytestmark = pytest.mark.django_db
SWITCHED_OFF = ROSTER.replace("default = true", "enabled = false")


def test_it_makes_what_the_file_says(load):
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


def test_an_address_in_a_private_network_is_taken_where_the_file_says_so(load):
    load(
        ROSTER.replace("https://models.acme.example/v1", "http://10.0.0.5/v1", 1).replace(
            'kind = "compatible"', 'kind = "compatible"\nprivate_address = true'
        )
    )
    assert Provider.objects.get().private_address


def test_it_says_what_it_made_and_never_a_key(load):
    said = load(ROSTER)
    assert '+ model big\n    provider: "acme"\n    model_id: "acme/big"' in said
    assert 'members: ["big", "small"]' in said
    assert 'API key: "from ACME_KEY"' in said
    assert KEY not in said


def test_loading_twice_changes_nothing_and_says_so(load):
    load(ROSTER + SEATS)
    before = everything()
    said = load(ROSTER + SEATS)
    assert everything() == before
    assert "changes nothing" in said
    assert "+" not in said
    assert "~" not in said


def test_it_says_what_it_changed(load):
    load(ROSTER + SEATS)
    changed = ROSTER.replace("1_250_000", "1_000_000").replace('"Our council"', '"Ours"') + SEATS.replace("0.5", "0.7")
    said = load(changed)
    assert "~ model big\n    input_price: 1250000 -> 1000000\n" in said
    assert '~ council ours\n    name: "Our council" -> "Ours"\n    seats.B.temperature: 0.5 -> 0.7\n' in said
    assert "0 new, 2 changed, 2 as they were" in said
    assert LanguageModel.objects.get(slug="big").input_price == 1_000_000
    assert Seat.objects.get(name="The careful one").temperature == 0.7


def test_a_dry_run_says_the_same_and_writes_nothing(load):
    rosters.council(rosters.provider(), default=True)
    before = everything()
    said = load(ROSTER + SEATS, "--dry-run")
    assert everything() == before
    assert "Nothing was changed" in said
    *would, _ = said.splitlines()
    *did, _ = load(ROSTER + SEATS).splitlines()
    assert would == did
    assert everything() != before


def test_a_dry_run_finds_the_mistakes(load):
    with pytest.raises(CommandError, match="neither in this file nor"):
        load(ROSTER.replace('["big", "small"]', '["big", "large"]'), "--dry-run")


def test_a_key_that_is_left_out_is_its_default(load):
    load(ROSTER)
    said = load(ROSTER.replace("max_output = 32_000\n", "").replace("context = 400_000\n", ""))
    assert "max_output: 32000 -> nothing" in said
    big = LanguageModel.objects.get(slug="big")
    assert (big.context, big.max_output) == (32_768, None)


@pytest.fixture
def retired(load):
    """A model of the file's that somebody has retired since."""
    load(ROSTER)
    big = LanguageModel.objects.get(slug="big")
    big.decide("retired", User.objects.create_user("alice@example.org"), "Too dear.")
    big.save()
    return big


def decision(model):
    model.refresh_from_db()
    return model.approval, model.approval_note, model.decided, model.decided_by


def test_what_was_decided_about_a_model_stays_where_the_file_has_no_word_on_it(load, retired):
    before = decision(retired)
    said = load(SWITCHED_OFF.replace("1_250_000", "1_000_000"))
    assert "input_price: 1250000 -> 1000000" in said
    assert "approval" not in said
    assert decision(retired) == before


def test_a_file_that_says_it_has_decided(load, retired):
    said = load(ROSTER.replace('slug = "big"\n', 'slug = "big"\napproval = "approved"\n', 1))
    assert 'approval: "retired" -> "approved"' in said
    assert 'approval_note: "Too dear." ->' in said
    approval, note, decided, by = decision(retired)
    assert (approval, note, by) == ("approved", "", None)
    assert decided


def test_a_file_that_exchanges_a_model_has_decided_about_another(load, retired):
    load(SWITCHED_OFF.replace("acme/big", "acme/bigger"))
    approval, note, _decided, by = decision(retired)
    assert (approval, note, by) == ("retired", "Too dear.", None)


def test_what_the_file_does_not_name_is_left_alone_and_said_so(load):
    rosters.council(rosters.provider())
    before = [everything()[place][:1] for place in range(3)]
    said = load(ROSTER)
    assert [everything()[place][:1] for place in range(3)] == before
    assert "provider fake" in said
    assert "model fake-alpha" in said
    assert "council test" in said


def test_a_file_may_build_on_what_is_in_the_database(load):
    rosters.council(rosters.provider())
    load('[[councils]]\nslug = "new"\nname = "New"\nmembers = ["fake-alpha", "fake-beta"]\nchairman = "fake-gamma"\n')
    assert plans.line_up(Council.objects.get(slug="new"))


def test_what_was_learnt_of_a_model_stays(load):
    load(ROSTER)
    LanguageModel.objects.update(tokens_per_byte=0.21)
    load(ROSTER.replace('"Big"', '"Bigger"'))
    assert LanguageModel.objects.get(slug="big").tokens_per_byte == 0.21


def test_the_default_goes_from_one_council_to_another(load):
    rosters.council(rosters.provider(), default=True)
    said = load(ROSTER)
    assert "~ council test\n    default: true -> false" in said
    assert "council test" not in said[said.index("left as they are") :]
    assert [each.slug for each in Council.objects.filter(default=True)] == ["ours"]
    load(ROSTER + ROSTER[ROSTER.index("[[councils]]") :].replace("ours", "theirs").replace("true", "false"))
    both = ROSTER[ROSTER.index("[[councils]]") :]
    load(both.replace("true", "false") + both.replace('"ours"', '"theirs"'))
    assert [each.slug for each in Council.objects.filter(default=True)] == ["theirs"]


def test_two_models_may_change_places(load):
    load(ROSTER)
    load(ROSTER.replace("acme/big", "x").replace("acme/small", "acme/big").replace('"x"', '"acme/small"'))
    assert dict(LanguageModel.objects.values_list("slug", "model_id")) == {"big": "acme/small", "small": "acme/big"}


def test_a_past_deliberation_stays_as_it_was(load):
    load(ROSTER)
    council = Council.objects.get()
    deliberation = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
    deliberation.save()
    before = Deliberation.objects.values().get()
    load(ROSTER.replace('"Big"', '"Other"').replace('["big", "small"]', '["small", "big"]').replace("acme/big", "x"))
    assert Deliberation.objects.values().get() == before


def test_groups_are_made_and_left_alone_where_the_file_is_silent(load):
    load(ROSTER.replace("default = true", 'default = true\ngroups = ["legal", "sales"]'))
    assert [each.name for each in Council.objects.get().groups.order_by("name")] == ["legal", "sales"]
    assert "changes nothing" in load(ROSTER)
    load(ROSTER.replace("default = true", "default = true\ngroups = []"))
    assert not Council.objects.get().groups.exists()
    assert Group.objects.count() == 2


def test_a_council_that_is_switched_off_may_be_incomplete(load):
    load(ROSTER.replace('["big", "small"]', '["big"]').replace("default = true", "enabled = false"))
    assert not Council.objects.get().enabled


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm(load):
    load(ROSTER + SEATS)
    assert "changes nothing" in load(b"\xef\xbb\xbf" + (ROSTER + SEATS).replace("\n", "\r\n").encode())


@pytest.mark.django_db(transaction=True)
def test_of_several_that_load_at_once_each_but_the_first_finds_all_done():
    def one(_number: int) -> int:
        try:
            return len(loading.load(ROSTER.encode(), "roster.toml", {"ACME_KEY": KEY}).differences)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == [0, 0, 0, 4]

import re
from uuid import uuid4

import pytest

from council import plans
from council.core.values import Mode
from council.models import Council, Deliberation, LanguageModel, Provider
from council.tests import rosters
from council.tests.admin_pages import errors, model_form, page, said, save, url

pytestmark = pytest.mark.django_db


def council_form(council=None, seats=(), fallbacks=(), **values):
    """The form of a council; a seat is (row or None, role, model, more), a fallback model (role, model)."""
    given = {
        "name": "Ours",
        "slug": "ours",
        "description": "",
        "enabled": "on",
        "answer_tokens": 4000,
        "review_tokens": 1500,
        "synthesis_tokens": 4000,
        "grace_seconds": 30,
        "stage_seconds": 900,
        "seats-TOTAL_FORMS": len(seats),
        "seats-INITIAL_FORMS": sum(row is not None for row, *_ in seats),
    }
    given |= {"fallbacks-TOTAL_FORMS": len(fallbacks), "fallbacks-INITIAL_FORMS": 0}
    for place, (role, model) in enumerate(fallbacks):
        fallback = {"id": "", "council": "", "role": role, "position": place, "language_model": model.pk}
        given |= {f"fallbacks-{place}-{name}": value for name, value in fallback.items()}
    for place, (row, role, model, *more) in enumerate(seats):
        seat = {
            "id": row.pk if row else "",
            "council": council.pk if council else "",
            "role": role,
            "position": place,
            "language_model": model.pk if model else "",
            "name": "",
            "temperature": "",
            "system_prompt": "",
            **(more[0] if more else {}),
        }
        given |= {f"seats-{place}-{name}": value for name, value in seat.items()}
    return {name: value for name, value in (given | values).items() if value is not None}


class TestCouncils:
    @pytest.fixture
    def models(self, provider):
        return [rosters.model(provider, name) for name in ("alpha", "beta", "gamma", "delta")]

    def add(self, admin, *seats, **values):
        return admin.post(url(Council, "add"), council_form(seats=[(None, *seat) for seat in seats], **values))

    def test_a_new_one_begins_with_rows_for_three_members_and_a_chairman(self, admin):
        text = admin.get(url(Council, "add")).content.decode()
        rows = re.findall(r'<select name="seats-\d-role".*?</select>', text, re.DOTALL)
        chosen = [re.search(r'value="(\w+)" selected', row)[1] for row in rows]
        assert chosen == ["member", "member", "member", "chairman"]

    def test_everything_that_can_be_filled_in_has_a_name(self, admin):
        text = admin.get(url(Council, "add")).content.decode()
        inputs = re.findall(r'<(?:input|select|textarea)[^>]* name="seats-0-(?!id|council)\w+"[^>]*>', text)
        assert len(inputs) == 6
        assert all("aria-label=" in each for each in inputs)

    def test_rows_left_as_they_are_are_no_seats(self, admin, models):
        alpha, beta, _, delta = models
        response = self.add(admin, ("member", alpha), ("member", beta), ("member", None), ("chairman", delta))
        assert response.status_code == 302
        members, chairman = plans.line_up(Council.objects.get())
        assert [str(seat) for seat in [*members, chairman]] == ["Alpha", "Beta", "Delta"]

    @pytest.mark.parametrize(
        ("roles", "words"),
        [
            ("mm", "A council needs a chairman. Add a seat with that role."),
            (
                "mc",
                "at least two members whose model is approved and enabled, as its provider is; "
                "of the members here that is so for 1 of 1",
            ),
            ("c", "for 0 of 0"),
            ("", "A council needs a chairman."),
            ("mmcc", "A council has one chairman; this one has 2."),
        ],
    )
    def test_what_is_missing_is_said(self, admin, models, roles, words):
        names = {"m": "member", "c": "chairman"}
        response = self.add(admin, *((names[role], model) for role, model in zip(roles, models, strict=False)))
        assert words in errors(response)
        assert not Council.objects.exists()

    def test_what_was_typed_is_kept(self, admin, models):
        alpha, beta, *_ = models
        response = self.add(
            admin, ("member", alpha, {"name": "The first", "system_prompt": "Be bold."}), ("member", beta)
        )
        text = page(response)
        assert 'value="The first"' in text
        assert "Be bold." in text
        assert f'<option value="{beta.pk}" selected>' in text
        assert 'value="Ours"' in text

    @pytest.mark.parametrize("sign", ["\u202e", "\u200b", "\n", "\x07"])
    def test_a_name_that_turns_or_hides_what_is_beside_it_is_refused(self, admin, models, sign):
        alpha, beta, gamma, *_ = models
        seats = ("member", alpha, {"name": f"The{sign}first"}), ("member", beta), ("chairman", gamma)
        assert "characters that are not seen, or that turn the text" in errors(self.add(admin, *seats))
        seats = ("member", alpha), ("member", beta), ("chairman", gamma)
        assert "characters that are not seen, or that turn the text" in errors(
            self.add(admin, *seats, name=f"O{sign}s")
        )
        assert not Council.objects.exists()

    def test_what_is_not_sent_to_a_model_is_said(self, admin, models):
        alpha, beta, gamma, *_ = models
        LanguageModel.objects.filter(pk=alpha.pk).update(temperature=False)
        seats = ("member", alpha, {"temperature": "1"}), ("member", beta, {"temperature": "1"}), ("chairman", gamma)
        self.add(admin, *seats)
        (warned, _saved) = said(admin.get(url(Council)))
        assert warned.startswith("Alpha is asked without the temperature of its seat.")

    def test_a_model_that_is_switched_off_does_not_count(self, admin, models):
        alpha, beta, gamma, delta = models
        LanguageModel.objects.filter(pk=alpha.pk).update(enabled=False)
        seats = [("member", alpha), ("member", beta), ("chairman", delta)]
        assert "for 1 of 2" in errors(self.add(admin, *seats))
        assert self.add(admin, *seats, ("member", gamma)).status_code == 302

    def test_neither_does_one_of_a_provider_that_is(self, admin, models):
        Provider.objects.update(enabled=False)
        wrong = errors(self.add(admin, ("member", models[0]), ("member", models[1]), ("chairman", models[2])))
        assert "for 0 of 2" in wrong
        assert "The chairman's model, Gamma (Fake), is not approved or is switched off, or its provider is." in wrong

    @pytest.mark.parametrize("approval", ["proposed", "retired"])
    def test_nobody_is_seated_who_is_not_approved(self, admin, models, approval):
        alpha, beta, gamma, delta = models
        LanguageModel.objects.filter(pk=gamma.pk).update(approval=approval)
        seats = [("member", alpha), ("member", beta), ("chairman", delta)]
        refused = f"Gamma (Fake) is {approval}. Have it approved first, in the list of models."
        assert refused in errors(self.add(admin, *seats, ("member", gamma)))
        assert refused in errors(self.add(admin, *seats, fallbacks=[("member", gamma)]))
        assert refused in errors(self.add(admin, *seats, ("member", gamma), enabled=None))
        assert not Council.objects.exists()

    def test_who_was_retired_since_may_stay(self, admin, council):
        seats = [(each, each.role, each.language_model) for each in council.seats.order_by("position")]
        LanguageModel.objects.filter(name="Gamma").update(approval="retired")
        assert save(admin, council, council_form(council, seats, name="Renamed")).status_code == 302
        seats[0] = (*seats[0][:2], LanguageModel.objects.get(name="Gamma"))
        assert "Gamma (Fake) is retired." in errors(save(admin, council, council_form(council, seats)))

    def test_one_that_is_switched_off_may_be_incomplete(self, admin, models):
        assert self.add(admin, ("member", models[0]), enabled=None).status_code == 302
        assert not Council.objects.get().enabled

    def test_but_never_has_two_chairmen(self, admin, models):
        response = self.add(admin, ("chairman", models[0]), ("chairman", models[1]), enabled=None)
        assert "one chairman; this one has 2" in errors(response)

    def test_a_model_may_sit_twice(self, admin, models):
        response = self.add(admin, ("member", models[0]), ("member", models[0]), ("chairman", models[0]))
        assert response.status_code == 302

    def test_two_seats_can_change_places(self, admin, council):
        a, b, c, d = council.seats.order_by("position")
        seats = [
            (a, "chairman", a.language_model),
            (b, "member", b.language_model),
            (c, "member", c.language_model),
            (d, "member", d.language_model),
        ]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        assert list(council.seats.order_by("position").values_list("role", flat=True)) == [
            "chairman",
            "member",
            "member",
            "member",
        ]

    def test_a_chairman_can_be_removed_for_another(self, admin, council):
        a, b, c, d = council.seats.order_by("position")
        seats = [(each, "member", each.language_model) for each in (a, b, c)]
        seats += [(d, "chairman", d.language_model, {"DELETE": "on"}), (None, "chairman", a.language_model)]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        assert [str(seat) for seat in council.seats.filter(role="chairman")] == ["Alpha"]

    def test_a_chairman_that_is_removed_is_missed(self, admin, council):
        seats = [(each, each.role, each.language_model) for each in council.seats.order_by("position")]
        seats[3] = (*seats[3], {"DELETE": "on"})
        assert "needs a chairman" in errors(save(admin, council, council_form(council, seats)))
        assert council.seats.count() == 4

    def test_making_one_the_default_takes_it_from_the_other(self, admin, council, provider):
        Council.objects.update(default=True)
        seats = [(None, each.role, each.language_model) for each in council.seats.order_by("position")]
        response = admin.post(url(Council, "add"), council_form(seats=seats, default="on"))
        assert response.status_code == 302, errors(response)
        assert list(Council.objects.filter(default=True).values_list("slug", flat=True)) == ["ours"]

    def test_the_default_must_be_enabled(self, admin, models):
        assert "The default council must be enabled." in errors(self.add(admin, default="on", enabled=None))

    def test_groups_are_kept(self, admin, council):
        from django.contrib.auth.models import Group

        group = Group.objects.create(name="Directors")
        seats = [(each, each.role, each.language_model) for each in council.seats.order_by("position")]
        save(admin, council, council_form(council, seats, groups=[group.pk]))
        assert list(council.groups.all()) == [group]

    def test_the_list_says_who_sits_and_whether_it_can_be_asked(self, admin, council):
        text = page(admin.get(url(Council)))
        assert "Alpha, Beta, Gamma" in text
        assert "Delta" in text
        row = re.search(r'field-usable">(.*?)</td>', text)[1]
        assert 'alt="True"' in row
        LanguageModel.objects.filter(name="Delta").update(enabled=False)
        assert 'alt="False"' in re.search(r'field-usable">(.*?)</td>', page(admin.get(url(Council))))[1]

    def test_no_change_here_changes_a_past_deliberation(self, admin, council, provider):
        made = plans.new_deliberation(uuid4(), council, "Why?", (), Mode.FULL)
        made.save()
        plan = Deliberation.objects.get().plan
        a, b, c, d = council.seats.order_by("position")
        seats = [
            (a, "member", d.language_model, {"name": "Renamed", "system_prompt": "Other."}),
            (b, "chairman", a.language_model),
            (c, "member", c.language_model, {"DELETE": "on"}),
            (d, "member", d.language_model),
        ]
        assert save(admin, council, council_form(council, seats)).status_code == 302
        model = LanguageModel.objects.get(slug="fake-alpha")
        assert (
            save(admin, model, model_form(provider, name="Other", model_id="other", input_price="9")).status_code == 302
        )
        assert admin.post(url(Council, "delete", council.pk), {"post": "yes"}).status_code == 302
        now = Deliberation.objects.get()
        assert now.plan == plan
        assert (now.council, now.council_name) == (None, "Council test")
        assert plans.model_of(now.plan, 0).name == "Alpha"

"""What administrators and people do is in the audit trail: who, what, what was before; and never a secret."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.http import urlencode

from accounts import limits, roles, setup
from accounts.admin import audit_trail
from accounts.models import Invitation, Limit, User
from accounts.roles import Role
from accounts.tests.cast import PASSWORD
from accounts.tests.cast import bob as member
from conversations import asking
from conversations.tests import cast
from council.models import Provider, Seat
from council.tests import admin_pages, rosters
from governance import audit, chain
from governance.models import Event, Tally, Verification
from governance.tests.test_chain import by_force
from governance.tests.trail import events, last, whole_trail

pytestmark = pytest.mark.django_db(transaction=True)

PLANTED = "sk-planted-0123456789-abcdefgh"


@pytest.fixture
def root(client):
    person = User.objects.create_superuser("root@example.org", PASSWORD, name="Rosalind Root")
    client.force_login(person)
    return person


class TestTheAdmin:
    def test_a_provider_is_added_and_changed_with_what_was_before_and_without_its_key(self, client, root):
        client.post(admin_pages.url(Provider, "add"), admin_pages.provider_form(new_key=PLANTED))
        added = last("added")
        assert (added.actor, added.object_type, added.object_id) == (root.actor, "council.provider", "fake")
        assert added.details["changes"]["base_url"] == [None, "http://127.0.0.1:9/v1"]
        first = added.details["changes"]["api_key"][1]
        provider = Provider.objects.get()
        admin_pages.save(client, provider, admin_pages.provider_form(new_key="sk-another-9876543210", enabled=None))
        changed = last("changed").details["changes"]
        assert changed["enabled"] == [True, False]
        assert changed["api_key"][0] == first != changed["api_key"][1]
        assert set(changed) == {"enabled", "api_key"}
        for secret in (PLANTED, "sk-another", Provider.objects.values_list("api_key", flat=True)[0][:40]):
            assert secret not in whole_trail()

    def test_what_is_saved_unchanged_is_no_event(self, client, root):
        provider = rosters.provider()
        admin_pages.save(client, provider, admin_pages.provider_form(name=provider.name))
        assert not events("changed")

    def test_seats_are_told_with_their_council(self, client, root):
        council = rosters.council(rosters.provider())
        Seat.objects.filter(council=council, role="member").last().delete()
        page = reverse("admin:council_council_change", args=[council.pk])
        form = client.get(page).context["adminform"].form
        given = {name: value for name, value in form.initial.items() if value not in (None, [])}
        for inline in client.get(page).context["inline_admin_formsets"]:
            given |= {f"{inline.formset.prefix}-{k}": v for k, v in inline.formset.management_form.initial.items()}
            for each in inline.formset.initial_forms:
                given |= {f"{each.prefix}-{k}": v for k, v in each.initial.items() if v is not None}
                given[f"{each.prefix}-id"] = each.instance.pk
        given["seats-0-name"] = "The eldest"
        response = client.post(page, given)
        assert response.status_code == 302, response.context["errors"]
        changes = last("changed").details["changes"]
        before, after = changes["seats"]
        assert [each["name"] for each in before] == ["", "", ""]
        assert "The eldest" in [each["name"] for each in after]
        assert last("changed").object_id == council.slug

    def test_roles_of_a_person_are_told_by_their_names_and_the_person_by_a_pseudonym(self, client, root):
        bob = cast.bob()
        group = Group.objects.create(name="Editors")
        form = {"email": bob.email, "name": "Bob B.", "is_active": "on", "is_staff": "on", "groups": [group.pk]}
        client.post(reverse("admin:accounts_user_change", args=[bob.pk]), form)
        told = last("changed")
        assert (told.object_type, told.object_id) == ("accounts.user", str(bob.actor))
        assert told.details["changes"]["groups"] == [["Members"], ["Editors"]]
        assert told.details["changes"]["is_staff"] == [False, True]
        assert set(told.details["changes"]["name"]) != {"Bob B.", ""}
        for name in ("Bob", "bob@", "Rosalind", "root@"):
            assert name not in whole_trail()

    def test_what_is_removed_is_told_with_what_it_was(self, client, root):
        group = Group.objects.create(name="Editors")
        client.post(reverse("admin:auth_group_delete", args=[group.pk]), {"post": "yes"})
        assert last("removed").details["was"]["name"] == "Editors"
        others = [Group.objects.create(name=name) for name in ("One", "Two")]
        chosen = {"action": "delete_selected", "_selected_action": [each.pk for each in others], "post": "yes"}
        client.post(reverse("admin:auth_group_changelist"), chosen)
        assert {each.details["was"]["name"] for each in events("removed")} == {"Editors", "One", "Two"}

    def test_actions_are_told(self, client, root):
        bob = cast.bob()
        chosen = {"action": "deactivate", "_selected_action": [bob.pk]}
        client.post(reverse("admin:accounts_user_changelist"), chosen)
        assert (last("did").details["what"], last("did").object_id) == ("Deactivated", str(bob.actor))

    def test_an_invitation_that_is_withdrawn_is_told_without_its_address(self, client, root):
        expires = timezone.now() + timedelta(days=7)
        invitation = Invitation.objects.create(email="ira@example.org", created_by=root, expires=expires)
        for _ in range(2):  # the second time there is nothing to withdraw
            chosen = {"action": "withdraw", "_selected_action": [invitation.pk]}
            client.post(reverse("admin:accounts_invitation_changelist"), chosen)
        (told,) = events("did")
        assert (told.actor, told.details) == (root.actor, {"what": "Withdrawn"})
        assert (told.object_type, told.object_id) == ("accounts.invitation", str(invitation.pk))
        for each in (invitation.email, invitation.token):
            assert each not in whole_trail()

    def test_rights_that_a_role_is_given_are_told_with_those_that_it_had(self, client, root):
        auditors = roles.group(Role.AUDITOR)
        had = [str(each) for each in auditors.permissions.all()]
        right = Permission.objects.get(codename="read_others", content_type__app_label="conversations")
        given = [*auditors.permissions.values_list("pk", flat=True), right.pk]
        page = reverse("admin:auth_group_change", args=[auditors.pk])
        assert client.post(page, {"name": auditors.name, "permissions": given}).status_code == 302
        (told,) = events("changed")
        assert (told.actor, told.object_type, told.object_id) == (root.actor, "auth.group", str(auditors.pk))
        assert told.details["changes"] == {"permissions": [sorted(had), sorted([*had, str(right)])]}

    def test_settings_of_the_site_are_told(self, client, root):
        client.get(reverse("admin:accounts_sitesettings_changelist"))
        form = {"signup": "open", "domains": "", "public_links": "on", "factor_grace_days": "7"}
        client.post(reverse("admin:accounts_sitesettings_change", args=[1]), form)
        assert last("changed").details["changes"] == {"signup": ["closed", "open"], "public_links": [False, True]}

    def test_a_password_that_is_set_for_somebody_is_told_and_never_said(self, client, root):
        bob = cast.bob()
        new = "another password entirely"
        given = {"password1": new, "password2": new, "usable_password": "true"}
        client.post(reverse("admin:auth_user_password_change", args=[bob.pk]), given)
        assert last("sign-in changed").object_id == str(bob.actor)
        assert last("sign-in changed").actor == root.actor
        bob.refresh_from_db()
        for secret in (new, bob.password):
            assert secret not in whole_trail()


class TestPeople:
    def test_sign_ins_and_sign_outs(self, client):
        bob = member()
        client.post(reverse("account_login"), {"login": bob.email, "password": PASSWORD})
        assert (last("signed in").actor, last("signed in").object_id) == (bob.actor, str(bob.actor))
        assert last("signed in").details["by"] == ["password"]
        client.post(reverse("account_logout"))
        assert last("signed out").actor == bob.actor

    def test_sign_ins_that_fail_are_counted(self, client):
        for _ in range(3):
            client.post(reverse("account_login"), {"login": "nobody@example.org", "password": "wrong"})
        assert not events("sign-in failed")
        assert sum(Tally.objects.filter(kind="sign-in failed").values_list("count", flat=True)) == 3

    def test_a_new_password(self, client):
        bob = member()
        client.force_login(bob)
        new = "another password entirely"
        given = {"oldpassword": PASSWORD, "password1": new, "password2": new}
        client.post(reverse("account_change_password"), given)
        assert last("sign-in changed").details == {"what": "password changed"}

    def test_who_joins_and_how(self, client):
        given = {"email": "first@example.org", "name": "First", "password1": PASSWORD, "password2": PASSWORD}
        client.post(setup.link(), given)
        assert last("joined").details == {"by": "setup", "administrator": True}
        assert last("joined").actor == User.objects.get(email="first@example.org").actor


def test_a_roster_that_is_loaded_is_told(tmp_path):
    file = tmp_path / "roster.toml"
    file.write_text(
        '[[providers]]\nslug = "local"\nname = "Local"\nkind = "compatible"\nbase_url = "https://models.example/v1"\n'
    )
    call_command("roster", "load", str(file), "--dry-run")
    assert not Event.objects.exists()
    call_command("roster", "load", str(file))
    (told,) = events("added")
    assert (told.object_type, told.object_id) == ("roster", "provider local")
    assert told.details["by"] == "shell"


def test_nobody_is_kept_waiting_by_who_has_not_signed_in():
    """Whatever strangers do is counted: the chain grows by what people do."""
    client = Client()
    for place in ("/", "/accounts/login/", "/s/none/", "/admin/", "/join/none/"):
        client.get(place)
    client.post("/accounts/login/", {"login": "x@example.org", "password": "x"})
    assert not Event.objects.exists()


class TestTheExplorer:
    @pytest.fixture
    def page(self, client, root):
        audit.record(audit.Kind.CHANGED, root.actor, audit.Thing("council", "frontier"), changes={"quorum": [None, 3]})
        return reverse("admin:governance_event_changelist")

    def test_it_shows_who_did_what(self, client, root, page):
        said = client.get(page).content.decode()
        for word in ("root@example.org", "changed", "council frontier", "quorum", "Nobody has looked yet"):
            assert word in said

    def test_it_is_searched_by_a_person_and_by_a_thing(self, client, root, page):
        audit.record(audit.Kind.ASKED, cast.bob().actor, audit.Thing("deliberation", "abc"))
        found = {
            query: [each.kind for each in client.get(page, {"q": query}).context["cl"].result_list]
            for query in ("bob@", "abc", "frontier", "nothing like it")
        }
        assert found == {"bob@": ["asked"], "abc": ["asked"], "frontier": ["changed"], "nothing like it": []}

    def test_the_trail_of_one_deliberation_is_a_link_of_its_page(self, client, root):
        turn = asking.ask(root, "Where does the heron sleep?", cast.council())
        said = client.get(reverse("admin:council_deliberation_change", args=[turn.deliberation_id])).content.decode()
        place = f"{reverse('admin:governance_event_changelist')}?q={turn.deliberation_id}"
        assert place in said
        audit.record(audit.Kind.EXPORTED, root.actor, audit.Thing("conversation", turn.conversation_id))
        assert [each.kind for each in client.get(place).context["cl"].result_list] == ["exported", "asked"]

    def test_it_is_narrowed_by_what_was_done(self, client, page):
        kinds = {each.kind for each in client.get(page, {"kind": "changed"}).context["cl"].result_list}
        assert kinds == {"changed"}

    def test_its_badge_tells_whether_the_trail_is_whole(self, client, page):
        verify = reverse("admin:governance_event_verify")
        assert client.get(verify).status_code == 405
        assert "The trail is whole." in client.post(verify, follow=True).content.decode()
        by_force("UPDATE governance_event SET kind = 'asked' WHERE id = 1")
        assert "It was looked through just now." in client.post(verify, follow=True).content.decode()
        Verification.objects.update(at=timezone.now() - timedelta(minutes=2))
        said = client.post(verify, follow=True).content.decode()
        assert "The trail is not whole." in said
        assert "Event 1 is not what it was when it was written." in said

    def test_its_badge_does_not_vouch_for_a_trail_that_was_not_looked_at_for_days(self, client, page):
        chain.verify_and_keep()
        for _ in range(2):
            audit.record(audit.Kind.DID)
        for days, whole in ((1, True), (3, False)):
            then = timezone.now() - timedelta(days=days)
            Verification.objects.update(at=then)
            said = client.get(page).content.decode()
            assert ("The trail is whole." in said) is whole
            assert ("should be every night" in said) is not whole
            assert date_format(timezone.localtime(then), "DATETIME_FORMAT") in said
            assert "2 events have come since." in said

    def test_its_head_is_a_signed_document_and_an_event(self, client, root, page):
        response = client.post(reverse("admin:governance_event_head"))
        head = chain.read(response.content.decode())
        assert chain.verify(head).wrong == []
        assert (last("exported").actor, last("exported").object_type) == (root.actor, "audit head")

    def test_chosen_events_are_exported_as_lines_and_that_is_an_event(self, client, root, page):
        chosen = list(Event.objects.values_list("pk", flat=True))
        response = client.post(page, {"action": "export", "_selected_action": chosen})
        lines = [json.loads(line) for line in response.content.decode().splitlines()]
        assert [each["id"] for each in lines] == sorted(chosen)
        assert last("exported").details == {"events": len(chosen)}

    def test_exports_are_limited_like_all_others(self, client, root, page):
        Limit.objects.create(what="acts", per="person", amount=1, seconds=3600)
        limits.forget()
        for status in (200, 429):
            response = client.post(page, {"action": "export", "_selected_action": [1]})
            assert response.status_code == status
        assert len(events("exported")) == 1

    def test_of_too_many_events_none_are_exported_and_a_part_of_them_is(self, client, root, page, monkeypatch):
        audit.record(audit.Kind.DID, root.actor)
        newest = Event.objects.first()
        monkeypatch.setattr(audit_trail, "MOST_EXPORTED", 1)
        chosen = {"action": "export", "select_across": "1", "_selected_action": [1]}
        assert "at most 1 events" in client.post(page, chosen, follow=True).content.decode()
        assert not events("exported")
        between = urlencode({"at__gte": newest.at, "at__lt": newest.at + timedelta(days=1)})
        response = client.post(f"{page}?{between}", chosen)
        assert [json.loads(each)["id"] for each in response.content.decode().splitlines()] == [newest.pk]

    def test_nobody_changes_anything_there(self, client, page):
        place = reverse("admin:governance_event_change", args=[1])
        assert "readonly" in client.get(place).content.decode()
        assert client.post(place, {"kind": "asked"}).status_code == 403
        assert client.post(reverse("admin:governance_event_delete", args=[1]), {"post": "yes"}).status_code == 403
        assert client.get(reverse("admin:governance_event_add")).status_code == 403

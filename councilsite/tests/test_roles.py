"""What each role may do, and that nobody has more than was written down."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.urls import reverse

from accounts import roles
from accounts.models import User
from accounts.roles import Role
from accounts.tests.cast import PASSWORD
from conversations.tests import cast, links
from council.models import LanguageModel
from governance.models import Event

pytestmark = pytest.mark.django_db


def person(*given: Role, **fields) -> User:
    made = User.objects.create_user(f"{len(User.objects.all())}@example.org", PASSWORD, **fields)
    made.groups.set([roles.group(each) for each in given])
    return User.objects.get(pk=made.pk)


def give(somebody: User, right: str) -> None:
    label, codename = right.split(".")
    somebody.user_permissions.add(Permission.objects.get(content_type__app_label=label, codename=codename))


class TestTheGroups:
    def test_they_are_made_once_and_stay_as_an_administrator_left_them(self):
        roles.ensure()
        member = Group.objects.get(name="Members")
        assert {each.codename for each in member.permissions.all()} == {"ask", "export", "share", "share_publicly"}
        member.permissions.clear()
        roles.ensure()
        assert not member.permissions.exists()

    def test_whoever_was_there_before_there_were_roles_is_a_member(self):
        old = User.objects.create(email="old@example.org")
        roles.ensure()
        assert old.rights >= {roles.ASK}
        later = User.objects.create(email="later@example.org")
        roles.ensure()
        assert not later.rights

    def test_all_the_rights_they_name_are_there(self):
        for role in Role:
            assert roles.group(role).permissions.count() == len(set(roles._RIGHTS[role])), role

    def test_no_role_reads_what_others_asked(self):
        for role in Role:
            assert roles.READ_OTHERS not in person(role).rights

    def test_somebody_new_is_a_member(self):
        assert {each.name for each in User.objects.create_user("new@example.org").groups.all()} == {"Members"}

    def test_groups_that_are_no_role_are_beside_one(self):
        directors = Group.objects.create(name="Directors")
        assert [each.name for each in roles.with_role([directors])] == ["Directors", "Members"]
        auditors = roles.group(Role.AUDITOR)
        assert roles.with_role([auditors, directors]) == [auditors, directors]


class TestRights:
    def test_they_are_read_with_the_person_and_by_themselves_alike(self, client, django_assert_max_num_queries):
        auditor = person(Role.AUDITOR)
        client.force_login(auditor)
        seen = client.get("/").wsgi_request.user
        with django_assert_max_num_queries(0):
            assert seen.has_perm("governance.view_event")
            assert not seen.has_perm(roles.ASK)
        assert seen.rights == auditor.rights

    def test_somebody_switched_off_has_none(self):
        assert not person(Role.MEMBER, is_active=False).has_perm(roles.ASK)

    def test_a_superuser_may_everything_but_what_has_to_be_given(self):
        root = User.objects.create_superuser("root@example.org", PASSWORD)
        assert root.has_perm("council.change_provider")
        assert roles.READ_OTHERS not in root.rights


class TestWhoMayNotAsk:
    @pytest.fixture
    def auditor(self, client):
        somebody = person(Role.AUDITOR)
        client.force_login(somebody)
        return somebody

    def test_is_told_so_and_loses_nothing(self, client, auditor):
        council = cast.council()
        page = client.get("/").content.decode()
        assert "Your account may read here, and not ask." in page
        assert "<span>New question</span>" not in page
        assert "You have asked nothing here." in page
        response = client.post("/", {"question": "Why is it so?", "council": council.slug})
        assert response.status_code == 422
        assert "Why is it so?" in response.content.decode()
        assert Event.objects.get(kind="refused").details["rule"] == "may not ask"

    def test_nor_follow_up_nor_try_again_nor_export_nor_share(self, client, auditor):
        conversation = links.answered(auditor_as_member(auditor), cast.council())
        place = conversation.get_absolute_url()
        assert client.get(place).status_code == 200
        shown = client.get(place).content.decode()
        for hidden in ("export.md", 'data-dialog="share"', 'name="question"'):
            assert hidden not in shown
        assert client.post(f"{place}retry/", {"slot": "answering:0"}).status_code == 403
        assert client.get(f"{place}export.md").status_code == 403
        assert client.get(f"{place}share/").status_code == 403
        assert client.post(place, {"question": "And then?"}).status_code == 422


def auditor_as_member(somebody: User) -> User:
    """As they were when they asked: they have another role now."""
    somebody.user_permissions.add(Permission.objects.get(codename="ask", content_type__app_label="conversations"))
    asked = User.objects.get(pk=somebody.pk)
    asked.may(roles.ASK)
    somebody.user_permissions.clear()
    return asked


class TestFeatures:
    def test_links_for_anyone_are_a_right_of_their_own(self, client):
        somebody = person()
        for right in (roles.ASK, roles.SHARE):
            give(somebody, right)
        client.force_login(somebody)
        links.allow_public_links()
        conversation = links.answered(User.objects.get(pk=somebody.pk), cast.council())
        assert links.post(client, conversation, audience="anyone").status_code == 422
        assert links.post(client, conversation, audience="team").status_code == 302
        give(somebody, roles.SHARE_PUBLICLY)
        assert links.post(client, conversation, audience="anyone").status_code == 302


class TestTheAdmin:
    def pages(self, client) -> dict[str, int]:
        names = ("governance_event", "council_provider", "council_languagemodel", "council_council", "council_call")
        names += ("accounts_user", "accounts_sitesettings", "conversations_share", "auth_group", "accounts_limit")
        return {name: client.get(reverse(f"admin:{name}_changelist"), follow=True).status_code for name in names}

    def test_an_auditor_sees_and_changes_nothing(self, client):
        somebody = person(Role.AUDITOR, is_staff=True)
        client.force_login(somebody)
        assert self.pages(client) == {
            "governance_event": 200,
            "council_provider": 200,
            "council_languagemodel": 200,
            "council_council": 200,
            "council_call": 200,
            "accounts_user": 200,
            "accounts_sitesettings": 200,
            "conversations_share": 200,
            "auth_group": 403,
            "accounts_limit": 403,
        }
        assert not [right for right in somebody.rights if not right.split(".")[1].startswith("view_")]
        cast.council()
        provider = LanguageModel.objects.first().provider
        place = reverse("admin:council_provider_change", args=[provider.pk])
        assert client.post(place, {"name": "Mine"}).status_code == 403

    def test_an_administrator_keeps_rosters_and_people_and_hands_out_no_rights(self, client):
        client.force_login(person(Role.ADMINISTRATOR, is_staff=True))
        assert self.pages(client)["auth_group"] == 403
        place = reverse("admin:council_provider_add")
        given = {
            "name": "Ours",
            "slug": "ours",
            "kind": "compatible",
            "enabled": "on",
            "address": "https://a.example/v1",
        }
        assert client.post(place, given).status_code == 302
        bob = cast.bob()
        client.post(reverse("admin:accounts_user_change", args=[bob.pk]), {"email": bob.email, "is_superuser": "on"})
        bob.refresh_from_db()
        assert not bob.is_superuser

    def test_whoever_gets_such_a_role_may_enter(self, client):
        root = User.objects.create_superuser("root@example.org", PASSWORD)
        client.force_login(root)
        bob = cast.bob()
        given = {"email": bob.email, "is_active": "on", "groups": [roles.group(Role.AUDITOR).pk]}
        client.post(reverse("admin:accounts_user_change", args=[bob.pk]), given)
        bob.refresh_from_db()
        assert bob.is_staff


class TestApproval:
    @pytest.fixture
    def model(self):
        cast.council()
        return LanguageModel.objects.first()

    def act(self, client, action, model):
        chosen = {"action": action, "_selected_action": [model.pk]}
        response = client.post(reverse("admin:council_languagemodel_changelist"), chosen)
        model.refresh_from_db()
        return response

    def test_who_approves_and_who_retires_is_kept(self, client, model):
        admin = person(Role.ADMINISTRATOR, is_staff=True)
        client.force_login(admin)
        self.act(client, "retire", model)
        assert (model.approval, model.decided_by) == ("retired", admin)
        assert model.decided
        self.act(client, "approve", model)
        assert model.approval == "approved"
        told = [each.details["changes"] for each in Event.objects.filter(kind="changed").order_by("pk")]
        assert [each["approval"] for each in told] == [["approved", "retired"], ["retired", "approved"]]
        assert not Event.objects.filter(kind="did").exists()

    def test_the_note_of_an_earlier_decision_goes_with_it(self, client, model):
        earlier = person(Role.ADMINISTRATOR, is_staff=True)
        model.decide("retired", earlier, "Too dear.")
        model.save()
        admin = User.objects.create_superuser("root@example.org", PASSWORD)
        client.force_login(admin)
        self.act(client, "approve", model)
        assert (model.approval, model.approval_note, model.decided_by) == ("approved", "", admin)
        told = Event.objects.get(kind="changed")
        assert (told.actor, told.object_id) == (admin.actor, model.slug)
        assert told.details["changes"]["approval_note"] == ["Too dear.", ""]
        assert told.details["changes"]["decided_by"] == [str(earlier.actor), str(admin.actor)]

    @pytest.mark.parametrize("changed", [{"approval_note": "For drafts alone."}, {"model_id": "another/model"}])
    def test_whoever_changes_what_is_approved_has_approved_it(self, client, model, changed):
        model.decide("approved", person(Role.ADMINISTRATOR, is_staff=True), "Tried on Monday.")
        model.save()
        admin = User.objects.create_superuser("root@example.org", PASSWORD)
        client.force_login(admin)
        page = reverse("admin:council_languagemodel_change", args=[model.pk])
        form = client.get(page).context["adminform"].form
        given = {name: value for name, value in form.initial.items() if value is not None}
        assert client.post(page, {**given, "name": "Renamed"}).status_code == 302
        model.refresh_from_db()
        assert model.decided_by != admin
        assert client.post(page, {**given, **changed}).status_code == 302
        model.refresh_from_db()
        assert (model.approval, model.decided_by) == ("approved", admin)

    def test_whoever_moves_a_provider_has_approved_what_it_serves(self, client, model):
        LanguageModel.objects.update(decided_by=person(Role.ADMINISTRATOR, is_staff=True))
        admin = User.objects.create_superuser("root@example.org", PASSWORD)
        client.force_login(admin)
        moved = {"name": "Test", "kind": "compatible", "enabled": "on", "address": "https://elsewhere.example/v1"}
        place = reverse("admin:council_provider_change", args=[model.provider_id])
        assert client.post(place, {**moved, "new_key": "sk-new-and-long-enough"}).status_code == 302
        for each in LanguageModel.objects.all():
            assert (each.approval, each.decided_by) == ("approved", admin)

    def test_who_may_not_cannot(self, client, model):
        somebody = person(is_staff=True)
        for right in ("council.view_languagemodel", "council.change_languagemodel"):
            give(somebody, right)
        client.force_login(somebody)
        self.act(client, "retire", model)
        assert model.approval == "approved"
        form = client.get(reverse("admin:council_languagemodel_change", args=[model.pk])).content.decode()
        assert 'name="approval"' not in form

    def test_a_new_one_is_proposed_and_cannot_sit(self, client, model):
        root = User.objects.create_superuser("root@example.org", PASSWORD)
        client.force_login(root)
        LanguageModel.objects.update(approval="proposed")
        response = client.post("/", {"question": "Why?", "council": "test"})
        assert response.status_code == 422
        assert "at least two members whose models are in use" in response.content.decode()
        assert Event.objects.get(kind="refused").details["rule"] == "council not ready"


class TestReadingOthers:
    @pytest.fixture
    def conversation(self):
        return links.answered(cast.bob(), cast.council())

    def place(self, conversation) -> str:
        return reverse("admin:conversations_conversation_read", args=[conversation.pk])

    def test_nobody_has_the_right_by_default(self, client, conversation):
        root = User.objects.create_superuser("root@example.org", PASSWORD)
        for somebody in (root, person(Role.ADMINISTRATOR, is_staff=True), person(Role.AUDITOR, is_staff=True)):
            client.force_login(somebody)
            assert client.get(self.place(conversation)).status_code == 403
            assert client.post(self.place(conversation), {"reason": "Because I want to."}).status_code == 403

    def test_it_needs_a_reason_and_is_in_the_trail(self, client, conversation):
        reader = person(Role.AUDITOR, is_staff=True)
        give(reader, roles.READ_OTHERS)
        client.force_login(reader)
        assert "First question?" not in client.get(self.place(conversation)).content.decode()
        refused = client.post(self.place(conversation), {"reason": "short"})
        assert refused.status_code == 422
        assert "First question?" not in refused.content.decode()
        assert not Event.objects.filter(kind="read by staff").exists()
        shown = client.post(self.place(conversation), {"reason": "Asked to by the owner, ticket 12."})
        assert "First question?" in shown.content.decode()
        told = Event.objects.get(kind="read by staff")
        assert (told.actor, told.object_id) == (reader.actor, str(conversation.pk))
        assert told.details == {"reason": "Asked to by the owner, ticket 12.", "owner": str(conversation.owner.actor)}

    def test_the_list_says_whose_and_never_what(self, client, conversation):
        client.force_login(person(Role.AUDITOR, is_staff=True))
        said = client.get(reverse("admin:conversations_conversation_changelist")).content.decode()
        assert conversation.owner.email in said or str(conversation.owner) in said
        for page in (said, client.get(reverse("admin:conversations_conversation_change", args=[conversation.pk]))):
            text = page if isinstance(page, str) else page.content.decode()
            assert "First question?" not in text
            assert "Give a reason" not in text

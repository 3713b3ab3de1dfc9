"""The list of a person's conversations: its pages, their addresses, what an action on it draws again."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import example, given
from hypothesis import strategies as st

from conversations import history, presenting
from conversations.history import MOST, PAGE, Place
from conversations.models import Conversation
from conversations.tests import cast

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture
def client(alice):
    client = Client()
    client.force_login(alice)
    return client


def past(owner, count: int, title: str = "Question {}", apart: timedelta = timedelta(hours=1)) -> list[Conversation]:
    """Conversations of somebody, the newest first; none of today or yesterday."""
    made = [Conversation(owner=owner, title=title.format(number)) for number in range(count)]
    Conversation.objects.bulk_create(made)
    start = timezone.now() - timedelta(days=30)
    for number, each in enumerate(made):
        each.updated = start - number * apart
    Conversation.objects.bulk_update(made, ["updated"])
    return list(Conversation.objects.filter(pk__in=[each.pk for each in made]))


def titles(page: str) -> list[str]:
    return re.findall(r'<span id="h[0-9a-f]{32}" dir="auto" title="[^"]*">(.*?)</span>', page)


def link(page: str) -> dict[str, str]:
    """The parameters of "Show older", or nothing."""
    found = re.search(r'hx-get="([^"]*)"[^>]*>Show older', page)
    query = urlsplit(found[1].replace("&amp;", "&")).query if found else ""
    return {name: values[0] for name, values in parse_qs(query).items()}


def walk(client, between=lambda number: None, **first) -> list[str]:
    """The titles of all pages, each asked for by the link of the one before."""
    page = client.get("/history/", first, headers=HTMX).content.decode()
    seen = titles(page)
    number = 0
    while following := link(page):
        between(number)
        number += 1
        page = client.get("/history/", following, headers=HTMX).content.decode()
        seen += titles(page)
    return seen


def test_its_pages_have_no_gap_and_no_double(client, alice):
    everything = [each.title for each in past(alice, 2 * PAGE + 5)]
    assert walk(client) == everything


def test_its_pages_have_no_gap_and_no_double_where_all_was_asked_at_the_same_moment(client, alice):
    everything = [each.title for each in past(alice, 2 * PAGE + 5, apart=timedelta())]
    assert walk(client) == everything


@pytest.mark.parametrize("apart", [timedelta(hours=1), timedelta()])
def test_its_pages_have_no_gap_and_no_double_while_it_changes(client, alice, apart):
    everything = past(alice, 3 * PAGE, apart=apart)
    asked_again = {everything[3].pk, everything[PAGE - 1].pk, everything[2 * PAGE + 5].pk}
    deleted = everything[PAGE + 20].pk

    def meanwhile(number: int) -> None:
        if number:
            return
        Conversation.objects.filter(pk__in=asked_again).update(updated=timezone.now())
        Conversation.objects.filter(pk=deleted).update(deleted=timezone.now())
        for name in ("New", "Newer"):
            Conversation.objects.create(owner=alice, title=name)

    seen = walk(client, meanwhile)
    # What moved to the top from further down is found there.
    gone = {everything[2 * PAGE + 5].pk, deleted}
    assert seen == [each.title for each in everything if each.pk not in gone]
    top = titles(client.get("/history/").content.decode())[:5]
    assert set(top) == {"New", "Newer"} | {each.title for each in everything if each.pk in asked_again}


def test_its_pages_are_of_nobody_else(client, alice):
    bob = cast.bob()
    mine, others = past(alice, PAGE + 10), past(bob, PAGE + 10, "Secret {}")
    assert walk(client) == [each.title for each in mine]
    page = client.get("/history/", {"before": Place.of(others[5]).as_text()}, headers=HTMX).content.decode()
    assert "Secret" not in page
    page = client.get("/", {"before": Place.of(others[0]).as_text()}).content.decode()
    assert "Secret" not in page


def test_a_search_has_pages_too(client, alice):
    past(alice, PAGE + 30, "Cats & dogs {}")
    past(alice, PAGE + 30, "Trains {}")
    seen = walk(client, q="cats & DOGS")
    assert len(seen) == len(set(seen)) == PAGE + 30
    assert all(each.startswith("Cats &amp; dogs") for each in seen)
    page = client.get("/history/", {"q": "trains"}).content.decode()
    assert f"More than {PAGE} conversations found" in page
    assert "10 conversations found" not in page


def test_a_search_is_found_by_the_index_of_titles(alice):
    past(alice, 3)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
    plan = Conversation.objects.filter(title__icontains="question").explain()
    assert "conversation_title" in plan


def test_a_page_further_down_is_found_by_the_index_of_the_order(alice):
    somewhere = past(alice, 3)[1]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
    before = Place.of(somewhere)
    plan = history.following(Conversation.objects.visible_to(alice), before).explain()
    assert re.search(r"conversation_history.*\n +Index Cond:.*owner_id.*updated <= ", plan)
    assert "Sort" not in plan


def test_without_a_script_a_link_leads_to_the_older_ones_and_back(client, alice):
    everything = [each.title for each in past(alice, PAGE + 3, "Cats {}")]
    page = client.get("/", {"q": "cats"}).content.decode()
    assert titles(page) == everything[:PAGE]
    address = re.search(r'<a class="further" href="([^"]*)"', page)[1].replace("&amp;", "&")
    page = client.get(address).content.decode()
    assert "<!doctype html>" in page.lower()
    assert titles(page) == everything[PAGE:]
    assert not link(page)
    assert "<h2>Older</h2>" in page
    back = re.search(r'href="([^"]*)">Show the newest', page)[1]
    assert titles(client.get(back).content.decode()) == everything[:PAGE]


@pytest.mark.parametrize(
    "wrong", ["x", "0", "A" * 31, "A" * 33, "_" * 32, "Ä" * 32, "a b", "\x00", "A" * 28, "2026-11-21"]
)
def test_a_wrong_place_shows_the_beginning_and_says_so(client, alice, wrong):
    everything = [each.title for each in past(alice, PAGE + 3)]
    for address in ("/", "/history/"):
        response = client.get(address, {"before": wrong})
        page = response.content.decode()
        assert response.status_code == 200
        assert titles(page) == everything[:PAGE]
        assert "does not exist" in page
    response = client.get("/history/", {"before": wrong, "shown": 40}, headers=HTMX)
    # Below lines that are there it would double them.
    assert (response["HX-Retarget"], response["HX-Reswap"]) == ("#history", "outerHTML")
    assert titles(response.content.decode()) == everything[:PAGE]
    assert link(response.content.decode())["shown"] == str(PAGE)


def test_a_place_before_everything_has_nothing_older(client, alice):
    past(alice, 3)
    place = Place(datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)).as_text()
    client.cookies["zone"] = "America/New_York"
    for address in ("/", "/history/"):
        page = client.get(address, {"before": place}).content.decode()
        assert not titles(page)
        assert "There is nothing older." in page


@pytest.mark.parametrize("wrong", ["", "x", "-1", "1.5", "9" * 5000, "²"])
def test_a_wrong_number_of_lines_counts_for_none(client, alice, wrong):
    everything = past(alice, PAGE + 3)
    before = Place.of(everything[PAGE - 1]).as_text()
    page = client.get("/history/", {"before": before, "shown": wrong}, headers=HTMX).content.decode()
    assert len(titles(page)) == 3
    answer = client.post(reverse("delete", args=[everything[-1].pk]), {"shown": wrong}, headers=HTMX)
    assert len(titles(answer.content.decode())) == PAGE


@given(st.binary(min_size=24, max_size=24))
@example(((datetime.max - datetime(1970, 1, 1)) // timedelta(microseconds=1)).to_bytes(8) + bytes(16))  # noqa: DTZ001, DTZ901  # a number
def test_any_place_can_be_read_or_is_none(noise):
    from base64 import urlsafe_b64encode

    place = Place.read(urlsafe_b64encode(noise).decode())
    if place:
        assert Place.read(place.as_text()) == place
        # Dates at the ends of the calendar are none in some zones.
        for zone in (timezone.get_fixed_timezone(-720), timezone.get_fixed_timezone(840)):
            presenting.by_age([Conversation(updated=place.updated)], zone, place.updated)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 29), timezones=st.just(UTC)), st.uuids())  # noqa: DTZ001  # hypothesis adds the zone
def test_a_place_is_read_as_it_was(updated, key):
    assert Place.read(Place(updated, key).as_text()) == Place(updated, key)


def test_a_heading_is_not_said_again_where_a_page_goes_on_below_it(client, alice):
    now = timezone.now()
    everything = past(alice, 3 * PAGE)
    for number, each in enumerate(everything):
        # 60 of today, then 60 older ones.
        each.updated = now - timedelta(microseconds=number) if number < 60 else now - timedelta(days=90, seconds=number)
    Conversation.objects.bulk_update(everything, ["updated"])
    headings, page = [], client.get("/history/", headers=HTMX).content.decode()
    headings.append(re.findall("<h2>(.*?)</h2>", page))
    while following := link(page):
        page = client.get("/history/", following, headers=HTMX).content.decode()
        headings.append(re.findall("<h2>(.*?)</h2>", page))
    assert headings == [["Today"], ["Older"], []]


def test_an_action_draws_the_list_again_as_far_as_it_was_shown(client, alice):
    everything = past(alice, 3 * PAGE)
    gone = everything[PAGE + 5]
    answer = client.post(reverse("delete", args=[gone.pk]), {"shown": 2 * PAGE}, headers=HTMX).content.decode()
    left = [each.title for each in everything if each.pk != gone.pk]
    assert titles(answer) == left[: 2 * PAGE]
    assert f'name="shown" value="{2 * PAGE}"' in answer
    # The keyboard goes on at the line that followed.
    assert re.search(rf'href="{everything[PAGE + 6].get_absolute_url()}" autofocus', answer)
    assert answer.count("autofocus") == 1
    answer = client.post(reverse("restore", args=[gone.pk]), {"shown": 2 * PAGE}, headers=HTMX).content.decode()
    assert titles(answer) == [each.title for each in everything[: 2 * PAGE]]
    assert re.search(rf'href="{gone.get_absolute_url()}" autofocus', answer)


def test_an_undo_pushes_no_line_off_the_end(client, alice):
    everything = past(alice, PAGE + 7)
    gone = everything[PAGE]
    client.post(reverse("delete", args=[gone.pk]), headers=HTMX)
    answer = client.post(reverse("restore", args=[gone.pk]), {"shown": PAGE + 6}, headers=HTMX).content.decode()
    assert titles(answer) == [each.title for each in everything]


def test_a_deletion_under_a_search_is_undone_under_the_search_of_that_moment(client, alice):
    cats = past(alice, PAGE + 20, "Cats {}")
    past(alice, 3, "Trains {}")
    gone = cats[PAGE + 2]
    what = {"q": "cats", "shown": PAGE + 20}
    answer = client.post(reverse("delete", args=[gone.pk]), what, headers=HTMX).content.decode()
    assert titles(answer) == [each.title for each in cats if each.pk != gone.pk]
    answer = client.post(reverse("restore", args=[gone.pk]), what, headers=HTMX).content.decode()
    assert titles(answer) == [each.title for each in cats]
    client.post(reverse("delete", args=[gone.pk]), what, headers=HTMX)
    answer = client.post(reverse("restore", args=[gone.pk]), {"q": "trains", "shown": 3}, headers=HTMX).content.decode()
    assert set(titles(answer)) == {"Trains 0", "Trains 1", "Trains 2"}
    assert "is back" in answer


def test_an_action_where_the_list_began_further_down_keeps_to_that(client, alice):
    everything = past(alice, PAGE + 5)
    what = {"before": Place.of(everything[PAGE - 1]).as_text(), "shown": 5}
    answer = client.post(reverse("delete", args=[everything[-1].pk]), what, headers=HTMX).content.decode()
    assert titles(answer) == [each.title for each in everything[PAGE:-1]]
    assert 'name="before"' in answer


def test_the_last_line_that_goes_leaves_the_keyboard_at_the_list(client, alice):
    (only,) = past(alice, 1)
    answer = client.post(reverse("delete", args=[only.pk]), headers=HTMX).content.decode()
    assert re.search('<nav id="history"[^>]* autofocus', answer)


def test_no_request_draws_more_lines_than_a_few_pages(client, alice):
    everything = [Conversation(owner=alice, title=f"Question {number}") for number in range(MOST + 10)]
    Conversation.objects.bulk_create(everything)
    answer = client.post(reverse("delete", args=[everything[0].pk]), {"shown": "999999999"}, headers=HTMX)
    assert len(titles(answer.content.decode())) == MOST
    assert link(answer.content.decode())["shown"] == str(MOST)

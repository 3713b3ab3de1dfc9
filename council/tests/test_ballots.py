import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from council.core import ballots
from council.core.values import BallotState, Outcome, Reply

SEATS = {"K73": 2, "Q42": 0, "X95": 1}
ALL = ((2,), (0,), (1,))


def read(text, outcome=Outcome.COMPLETE):
    return ballots.read(Reply(text, outcome), SEATS)


def fenced(ballot, before="Some words.\n\n", after=""):
    return f"{before}```json\n{ballot if isinstance(ballot, str) else json.dumps(ballot)}\n```{after}"


def whole(**values):
    return json.dumps({"critique": "Well.", "ranking": [["K73"], ["Q42"], ["X95"]], "abstain": False, **values})


class TestTheLadder:
    def test_first_the_whole_text_as_json(self):
        ballot = read(whole())
        assert (ballot.groups, ballot.state) == (ALL, BallotState.VALID)

    def test_the_whole_text_as_json_repaired_where_it_is_broken(self):
        for broken in (whole()[:-1], whole() + " Done.", whole().replace("Well.", 'He said "well".')):
            ballot = read(broken)
            assert (ballot.groups, ballot.state) == (ALL, BallotState.REPAIRED)

    def test_then_fenced_json(self):
        ballot = read(fenced({"ranking": [["K73"], ["Q42"], ["X95"]]}))
        assert (ballot.groups, ballot.state) == (ALL, BallotState.VALID)

    @pytest.mark.parametrize(
        "text",
        [
            'Words.\n```\n{"ranking": [["K73"], ["Q42"], ["X95"]]}\n```',
            'Words.\n```JSON\n{"ranking": [["K73"], ["Q42"], ["X95"]]}\n```\nThat is all.',
            'Words. ```json {"ranking": ["K73", "Q42", "X95"]}```',
            'Words.\n```json\n{"ranking": [["K73"], ["Q42"], ["X95"]]}',
        ],
    )
    def test_a_fence_may_look_otherwise(self, text):
        assert read(text).groups == ALL

    def test_fenced_json_is_repaired_where_it_is_broken(self):
        ballot = read(fenced('{"ranking": [["K73"], ["Q42"], ["X95"],'))
        assert (ballot.groups, ballot.state) == (ALL, BallotState.REPAIRED)

    def test_the_last_fenced_ballot_counts(self):
        quoted = fenced({"ranking": [["X95"]]}, before="K73 orders me to write this:\n\n")
        assert read(fenced({"ranking": [["K73"], ["Q42"]]}, before=quoted + "\n\n")).groups == ((2,), (0,))
        assert read(fenced('{"ranking": [["K73"], ["Q42"],', before=quoted + "\n\n")).groups == ((2,), (0,))

    def test_a_fence_without_a_ballot_is_no_ballot(self):
        code = "\n\nLike so:\n```python\nprint({'a': 1})\n```"
        assert read(fenced({"ranking": [["K73"]]}, after=code)).groups == ((2,),)

    def test_a_ballot_quoted_inside_a_json_review_is_no_ballot(self):
        cut = '{"critique": "K73 says ```json {\\"ranking\\": [[\\"K73\\"]]} ``` which'
        assert read(cut).state is BallotState.ABSTAINED
        assert read(cut, Outcome.TRUNCATED).reason == "The review was cut off before its ballot."

    @pytest.mark.parametrize(
        "header", ["FINAL RANKING:", "**Final Ranking:**", "## Ranking", "Final ranking", "> __FINAL RANKING__ :"]
    )
    def test_then_the_list_under_the_last_ranking_header(self, header):
        ballot = read(f"RANKING\n1. X95\n\nNo, wait.\n\n{header}\n\n1. K73\n2. Q42\n3) X95\n")
        assert (ballot.groups, ballot.state) == (ALL, BallotState.REPAIRED)

    def test_a_winner_in_bold_is_not_lost(self):
        ballot = read("FINAL RANKING:\n1. **K73**\n2. `Q42`\n3. [X95]\n")
        assert ballot.groups == ALL

    def test_a_label_may_be_called_an_answer(self):
        assert read("FINAL RANKING:\n1. Answer K73\n2. **Response Q42**.\n").groups == ((2,), (0,))
        assert read(whole(ranking=[["Answer K73"], [" Q42 "]])).groups == ((2,), (0,))

    def test_labels_that_tie_share_a_place(self):
        assert read("RANKING:\n- K73 = X95\n- Q42\n").groups == ((1, 2), (0,))
        assert read(whole(ranking=[["X95", "K73"], ["Q42"]])).groups == ((1, 2), (0,))

    def test_the_list_ends_where_words_begin(self):
        assert read("RANKING:\n1. K73\n2. Q42\n\nThe others:\n3. X95\n").groups == ((2,), (0,))

    @pytest.mark.parametrize(
        "text",
        [
            "K73 is the best, then Q42, and X95 is last.",
            "1. K73\n2. Q42\n3. X95\n",
            "My ranking is 1. K73 2. Q42 3. X95",
            "FINAL RANKING: K73 > Q42 > X95",
            "FINAL RANKING:\nK73, then Q42.\n1. K73",
            "ranking",
            'The ballot would be {"ranking": [["K73"]]} if I had one.',
            "```\nK73\nQ42\n```",
        ],
    )
    def test_prose_is_never_counted(self, text):
        ballot = read(text)
        assert not ballot.counts
        assert (ballot.groups, ballot.reason) == ((), "The review has no ballot.")


class TestWhatIsNoBallot:
    @pytest.mark.parametrize(
        ("ranking", "reason"),
        [
            ([["K73"], ["K73"]], "The ballot names K73 twice."),
            ([["K73", "K73"]], "The ballot names K73 twice."),
            ([["K73"], ["Z99"]], "The ballot names 'Z99', which is no answer's label."),
            ([["K73"], [["Q42"]]], "The ballot names 'something', which is no answer's label."),
            ([["k73"]], "The ballot names 'k73', which is no answer's label."),
            ([[None]], "The ballot names 'something', which is no answer's label."),
            ("K73", "The ballot's ranking is not a list."),
            (None, "The ballot's ranking is not a list."),
            ({"1": "K73"}, "The ballot's ranking is not a list."),
        ],
    )
    def test_an_invalid_ballot_says_why(self, ranking, reason):
        ballot = read(whole(ranking=ranking))
        assert (ballot.groups, ballot.state, ballot.reason) == ((), BallotState.INVALID, reason)

    def test_an_item_that_is_no_label_alone_is_invalid(self):
        assert read("RANKING:\n1. K73 because it is right\n").state is BallotState.INVALID

    @pytest.mark.parametrize("ranking", [[], [[]], [[], []]])
    def test_a_ballot_that_ranks_nothing_is_an_abstention(self, ranking):
        ballot = read(whole(ranking=ranking))
        assert (ballot.state, ballot.reason) == (BallotState.ABSTAINED, "The ballot ranks nothing.")

    def test_a_partial_ranking_counts_as_far_as_it_goes(self):
        ballot = read(whole(ranking=[["X95"]]))
        assert (ballot.groups, ballot.counts) == (((1,),), True)

    def test_whoever_abstains_is_heard(self):
        text = whole(abstain=True, reason="All are wrong.")
        assert (read(text).state, read(text).reason) == (BallotState.ABSTAINED, "All are wrong.")
        assert read(fenced({"abstain": True})).reason == "The reviewer abstained."

    def test_a_reason_fits_into_a_row(self):
        reason = read('{"abstain": true, "reason": "a\\u0000b\\ud800c' + "x" * 9000 + '"}').reason
        assert reason.startswith("ab�cx")
        assert len(reason) == ballots.REASON_CHARACTERS

    def test_a_review_that_failed_has_its_own_reason(self):
        ballot = ballots.read(Reply("", Outcome.TIMED_OUT, "The model fell silent."), SEATS)
        assert (ballot.state, ballot.reason) == (BallotState.ABSTAINED, "The model fell silent.")

    def test_a_review_without_words_abstains(self):
        assert read("  \n").reason == "There is no review to read a ballot from."

    def test_a_review_that_was_cut_off_before_its_ballot_says_so(self):
        assert read("K73 is", Outcome.TRUNCATED).reason == "The review was cut off before its ballot."

    @pytest.mark.parametrize(
        "text",
        [
            'Words.\n```json\n{"ranking": [["K73"], ["Q4',
            '{"critique": "Well.", "ranking": [["K73"], ["Q42"]',
            "FINAL RANKING:\n1. K73\n2. Q4",
        ],
    )
    def test_a_ballot_that_was_cut_off_is_not_guessed_at(self, text):
        ballot = read(text, Outcome.TRUNCATED)
        assert (ballot.groups, ballot.state) == ((), BallotState.ABSTAINED)
        assert ballot.reason == "The review was cut off inside its ballot."

    def test_a_whole_ballot_counts_though_words_after_it_were_cut_off(self):
        assert read(fenced({"ranking": [["K73"]]}, after="\nAnd one m"), Outcome.TRUNCATED).counts


HOSTILE = [
    "[" * 100_000,
    '{"ranking": ' + "[" * 100_000,
    '{"a":' * 50_000,
    "{" * 60_000,
    "```json\n" + "{" * 60_000,
    "```json\n" * 20_000,
    "```" * 20_000,
    "\n" * 500_000,
    "*" * 500_000,
    "ranking" + "*" * 500_000 + "x",
    "ranking:\n1. a" + " " * 500_000 + "b",
    "RANKING:\n" + "1. K73\n" * 50_000,
    '{"ranking": ' + "9" * 100_000 + "}",
    '{"critique": "' + "\\" * 99_999,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: f"{text[:12]!r}")
def test_no_text_breaks_it_or_holds_it_up(text):
    began = time.process_time()
    assert not read(text).counts
    ballots.critique(text)
    # A guard against time that grows with the square: minutes, where this is a second at the most.
    assert time.process_time() - began < 20


@given(st.text(alphabet='{}[]":,`\\njsonKQX7342= .1*\n#RANKING', max_size=80), st.sampled_from(["", "```json\n", "{"]))
@settings(max_examples=300, deadline=None, database=None)
def test_whatever_a_model_writes_nothing_is_raised(text, start):
    ballot = read(start + text)
    assert ballot.counts or ballot.reason
    ballots.critique(start + text).encode()


class TestTheCritiqueThatPeopleRead:
    words = 'First.\n\n* K73 says "yes"\n* Q42: C:\\new 😀 `x` ```code``` {braces}\n\nEnd.'

    def grows(self, text):
        """What is shown after each character; it must only ever grow. Returns the last."""
        shown = ""
        for end in range(len(text) + 1):
            now = ballots.critique(text[:end])
            assert now.startswith(shown), (shown, now)
            shown = now
        return shown

    @pytest.mark.parametrize("ascii_only", [True, False])
    def test_it_grows_with_a_review_in_json(self, ascii_only):
        review = {"critique": self.words, "ranking": [["K73"]], "abstain": False, "reason": ""}
        assert self.grows(json.dumps(review, ensure_ascii=ascii_only)) == self.words
        assert self.grows(json.dumps(review, ensure_ascii=ascii_only, indent=2)) == self.words

    def test_it_grows_with_a_review_in_fenced_json(self):
        review = {"critique": self.words, "ranking": [["K73"]]}
        assert self.grows(f"```json\n{json.dumps(review)}\n```\n") == self.words
        assert self.grows(f"```\n{json.dumps(review)}\n```") == self.words

    @pytest.mark.parametrize("fence", ["```json", "```", "``` json", "```JSON"])
    def test_it_grows_with_words_and_a_fenced_ballot(self, fence):
        text = f'{self.words}\n\n{fence}\n{{"ranking": [["K73"], ["Q42"]]}}\n```\n'
        shown = self.grows(text.replace("``` json", "```json"))
        assert shown == self.words

    def test_an_example_in_a_fence_is_shown_once_the_ballot_comes(self):
        words = 'K73 shows\n```json\n{"a": 1}\n```\nwhich is right.'
        assert self.grows(fenced({"ranking": [["K73"]]}, before=words + "\n\n")) == words

    @given(st.text(max_size=60))
    @settings(max_examples=200, deadline=None, database=None)
    def test_it_grows_with_any_critique_in_json(self, words):
        self.grows(json.dumps({"critique": words, "ranking": []}))

    def test_json_is_never_shown(self):
        assert ballots.critique('{"ranking": [["K73"]]}') == ""
        assert ballots.critique('{"critique": 5}') == ""
        assert ballots.critique("{broken") == ""
        assert ballots.critique("[1, 2]") == "[1, 2]", "that is no review's form"

    def test_a_broken_review_still_shows_its_words(self):
        assert ballots.critique('{"critique": "Line\nline", "ranking": [') == "Line\nline"

    def test_it_holds_nothing_that_cannot_be_sent_on(self):
        shown = ballots.critique('{"critique": "a\\ud800b\\u0000c"}')
        assert shown == "a�bc"

    def test_a_review_in_words_is_shown_as_it_is(self):
        assert ballots.critique("K73 is right.\n\n1. one") == "K73 is right.\n\n1. one"


class TestTheSchema:
    def test_the_critique_comes_first(self):
        assert next(iter(ballots.schema(["K73"], enumerate_rankings=False)["properties"])) == "critique"

    def test_every_property_is_required_and_no_other_allowed(self):
        for enumerated in (True, False):
            made = ballots.schema(["K73", "Q42"], enumerate_rankings=enumerated)
            assert made["required"] == list(made["properties"])
            assert made["additionalProperties"] is False

    def test_only_the_labels_can_be_ranked(self):
        ranking = ballots.schema(["K73", "Q42"], enumerate_rankings=False)["properties"]["ranking"]
        assert ranking["items"]["items"]["enum"] == ["K73", "Q42"]

    def test_where_a_grammar_cannot_forbid_repetition_few_labels_are_enumerated(self):
        ranking = ballots.schema(list(SEATS), enumerate_rankings=True)["properties"]["ranking"]
        assert len(ranking["enum"]) == 6
        for each in ranking["enum"]:
            assert read(whole(ranking=each)).state is BallotState.VALID

    def test_many_labels_are_not_enumerated(self):
        made = ballots.schema([f"K{n}" for n in range(22, 27)], enumerate_rankings=True)
        assert "enum" not in made["properties"]["ranking"]

import pytest

from council.providers.thinking import InlineThinking


def read(whole: str, size: int) -> tuple[str, bool]:
    """The text, and whether there were thoughts."""
    thinking, text, thought = InlineThinking(), "", False
    for at in range(0, len(whole), size):
        part, thoughts = thinking.split(whole[at : at + size])
        text += part
        thought = thought or bool(thoughts)
    return text + thinking.rest(), thought


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 8, 100])
class TestThoughtsInTheText:
    def test_those_at_its_start_are_no_text(self, size):
        assert read("<think>Hm, <b>so</b>.</think>\n\nYes.", size) == ("Yes.", True)

    def test_white_space_before_them_does_not_matter(self, size):
        assert read("\n\n<think>\nHm.\n</think>\n\nYes.", size) == ("Yes.", True)

    def test_a_text_without_them_stays_as_it_is(self, size):
        for text in ("Yes.", "  indented", "<b>bold</b>", "<thin ice", "<", "", "Use <think>this</think> tag."):
            assert read(text, size) == (text, False)

    def test_thoughts_without_an_end_are_no_text(self, size):
        assert read("<think>Hm, let me see whether", size) == ("", True)

    def test_an_empty_thought_is_none_of_the_text(self, size):
        assert read("<think></think>Yes.", size)[0] == "Yes."

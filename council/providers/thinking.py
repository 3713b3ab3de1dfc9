"""Thoughts that come inside the text: some servers leave them there, between `<think>` and `</think>` at its start."""

BEGIN, END = "<think>", "</think>"


class InlineThinking:
    """Parts a streamed text from the thoughts before it. `over`: from here on all is text."""

    def __init__(self) -> None:
        self.over = False
        self._held = ""
        self._thinking = False

    def split(self, piece: str) -> tuple[str, str]:
        """The next piece as text and thinking; both are empty while it is not clear what it is."""
        if self.over:
            return piece, ""
        self._held += piece
        if not self._thinking:
            start = self._held.lstrip()
            if not start.startswith(BEGIN):
                return ("", "") if BEGIN.startswith(start) else (self.rest(), "")
            self._thinking = True
            self._held = start.removeprefix(BEGIN)
        thoughts, end, text = self._held.partition(END)
        if not end:
            self._held = self._held[-len(END) :]  # the end may be cut in two
            return "", piece
        # The white space after them is no text either, however much of it has come.
        text = text.lstrip()
        self.over = bool(text)
        self._held = "" if text else END
        return text, thoughts

    def rest(self) -> str:
        """What was held back and is text after all, at the latest where the stream ends."""
        self.over = True
        held, self._held = self._held, ""
        return "" if self._thinking else held

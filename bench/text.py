"""The fake provider's text: Markdown in tokens, always the same, and the stamps that tell when each token left."""

import re
import time
from itertools import chain, islice
from json.encoder import encode_basestring
from typing import NamedTuple

TITLES = ["Choosing where a cache belongs", "Trade-offs of one more service", "A plan for slow queries"]

MARKDOWN = """
The short answer is yes, with one condition: measure before you change anything, because the slow part is \
seldom the part that looks slow. What follows is the reasoning, then a plan that a small team can carry out in \
a week.

## What matters most

- **Correctness first.** A fast wrong answer costs more than a slow right one.
- **Fewer moving parts.** Each service that you add is one that somebody must run at night.
- **A way back.** Every step should be one that you can undo on the same day.

There is a *second* consideration that is easy to miss. People tend to compare averages, while users feel the \
worst case; so look at the ninety-fifth percentile, and look at it under the load that you really have, not \
the one you hope for.

1. Write down what "good enough" means, as a number.
2. Measure today's figure with the simplest tool at hand.
3. Change one thing, and measure again.
4. Keep the change only if the figure moved by more than its noise.

```python
def percentile(samples, share):
    ordered = sorted(samples)
    place = round(share * (len(ordered) - 1))
    return ordered[place]
```

### Where I am less sure

> If the data is small enough to fit in memory, most of this advice is beside the point.

I have assumed a few thousand users and one database. With ten times as many, the order of the steps stays the \
same but the third becomes harder — naïve caching hides the problem until the first cold start, and then \
everything waits at once.

Finally, a word on cost: the cheapest option is to do nothing for a month & see whether anybody complains. If \
x < y for all of your *important* pages, nobody will. Otherwise use `EXPLAIN ANALYZE`, begin with the worst \
query, and stop early.
"""


class Delta(NamedTuple):
    """One token: the delta's field, its text, and where in the text a stamp may stand (-1: nowhere)."""

    field: str
    text: str
    mark: int = -1


def _tokens(block: str) -> list[Delta]:
    # A stamp stands before the word and after any Markdown mark, so that it is always visible text: not in a fence's
    # info string, not between a list and its bullet.
    marks = r"\s*(?:(?:[-*>]|\d+\.|#{1,6})\s+|```\w*\n\s*|\*{1,2}|`)*"
    found = re.finditer(rf"({marks})\S+(?:\n```$)?", "\n\n" + block)
    return [Delta("content", match[0], len(match[1])) for match in found]


def _quoted(token: Delta) -> Delta:
    """The same token as part of a JSON string."""
    before, after = token.text[: token.mark], token.text[token.mark :]
    mark = len(encode_basestring(before)) - 2
    return Delta(token.field, encode_basestring(before + after)[1:-1], mark)


BLOCKS = [_tokens(block) for block in re.split(r"\n\n", MARKDOWN.strip())]
QUOTED_BLOCKS = [[_quoted(token) for token in block] for block in BLOCKS]


def tokens(count: int, seed: int, *, quoted: bool = False) -> list[Delta]:
    """Give `count` tokens of Markdown: whole paragraphs, lists and a code block in an order that `seed` decides."""
    blocks = QUOTED_BLOCKS if quoted else BLOCKS
    start = seed % len(blocks)
    endless = chain.from_iterable(blocks[(start + i) % len(blocks)] for i in range(count))
    found = list(islice(endless, count))
    if found:
        leading = len(r"\n\n" if quoted else "\n\n")
        found[0] = Delta("content", found[0].text[leading:], found[0].mark - leading)
    return found


_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_UNIT_US = 100
_CYCLE = 62**4


def stamp(request: int, serial: int) -> str:
    """Name a token and its time of sending in one word of eleven characters, so that a text is about as long as usual.

    Letters and digits only, so that Markdown, HTML escaping, JSON and a code highlighter all leave it whole. The time
    is counted in tenths of a millisecond, from 0 again after 25 minutes.
    """
    return f"Zq{_write(request, 3)}{_write(serial, 2)}{_write(time.time_ns() // 1000 // _UNIT_US, 4)}"


def _write(number: int, digits: int) -> str:
    written = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        written = _DIGITS[digit] + written
    return written


def _read(written: str) -> int:
    number = 0
    for digit in written:
        number = number * 62 + _DIGITS.index(digit)
    return number


class Stamp(NamedTuple):
    """A stamp found in a text: the request's number, the token's place in it from 0, microseconds since it was sent."""

    request: int
    serial: int
    age_us: int


def read_stamps(text: str, now_ns: int | None = None, seen: set[str] | None = None) -> list[Stamp]:
    """Find the stamps in a text (Markdown or HTML). `now_ns` is `time.time_ns()` when the text arrived.

    With `seen` those that are in it are left out, and the others are added: a page repeats most of what it shows.

    An age is right up to twelve minutes; one that a clock set back would make negative comes out as such.
    """
    now = (time.time_ns() if now_ns is None else now_ns) // 1000 // _UNIT_US
    half = _CYCLE // 2
    found = re.findall(r"Zq(\w{5})(\w{4})", text, re.ASCII)
    if seen is not None:
        found = [(token, sent) for token, sent in found if token not in seen]
        seen.update(token for token, _ in found)
    return [
        Stamp(_read(token[:3]), _read(token[3:]), ((now - _read(sent) + half) % _CYCLE - half) * _UNIT_US)
        for token, sent in found
    ]


def pieces(text: str) -> list[Delta]:
    """Cut a text into tokens of a few characters, as models do with JSON: at no boundary that means anything."""
    return [Delta("content", part) for part in re.findall(r"(?s).{1,6}", text)]


def words(text: str, name: str = "content") -> list[Delta]:
    """Cut a text into tokens of a word and the space before it. Nothing is lost or added."""
    return [Delta(name, part) for part in re.findall(r"\s*\S+|\s+$", text)]

"""Seat <-> anonymous label. Each reviewer gets an order and labels of its own, drawn at random.

Labels are short and random (K73, not A), so that no answer can ask to have "Answer A" ranked first. Vowels and
look-alikes are left out, so that no label is a word. A label that stands in the text at hand is not drawn.
"""

import itertools
import random
import re
from collections.abc import Mapping

from council.core.values import ReviewOrder

_LETTERS = "CDFGHJKLMNPQRTVWXYZ"
_DIGITS = "23456789"


def draw_labels(count: int, rng: random.Random, avoid: str = "") -> tuple[str, ...]:
    """`count` distinct labels, none of which stands in `avoid`. They grow longer where the short ones are taken."""
    labels: list[str] = []
    for tried in itertools.count():
        if len(labels) == count:
            break
        label = rng.choice(_LETTERS) + "".join(rng.choice(_DIGITS) for _ in range(2 + tried // 500))
        if label not in labels and label not in avoid:
            labels.append(label)
    return tuple(labels)


def draw_order(count: int, rng: random.Random, avoid: str = "") -> ReviewOrder:
    """An order of `count` seats for one reviewer, with labels."""
    return ReviewOrder(tuple(rng.sample(range(count), count)), draw_labels(count, rng, avoid))


def rewrite(text: str, names: Mapping[str, str]) -> str:
    """The text with each label replaced by another name, all at once, whole words only."""
    # A text is asked for again and again while it grows, and to look for one label is far quicker than for any.
    found = [label for label in names if label in text]
    if not found:
        return text
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, found)) + r")(?!\w)")
    return pattern.sub(lambda match: names[match.group()], text)


def letter(seat: int) -> str:
    """How people know a member: A, B, … Z, then A2, B2, …"""
    round_, place = divmod(seat, 26)
    return chr(ord("A") + place) + (str(round_ + 1) if round_ else "")

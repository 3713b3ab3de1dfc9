"""What somebody wrote stands in a document and does not become a part of it."""

import re
from html import escape

import comrak
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import quoting
from conversations.markdown import clean
from conversations.tests.injections import INJECTIONS

PIECES = [
    "`",
    "``",
    "```",
    "~~~",
    "<b>",
    "</blockquote>",
    "<!--",
    "-->",
    "<",
    "[a]: x",
    "[^1]: x",
    "[^1]",
    "[a]",
    "|",
    "-|-",
    "\n",
]
PIECES += [
    "\n\n",
    "\r",
    "\t",
    " ",
    "    ",
    "> ",
    "# h",
    "- ",
    "1. ",
    "===",
    "\\",
    "$",
    "$$",
    "word",
    "&lt;",
    "\u2028",
    "\x0b",
    "http://x.yz",
    "www.x.yz",
    "WWW.",
    "a@b.cd",
    "^[",
    "]",
]
texts = st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(max_size=60)


def html(document: str, reader=quoting._READERS[1]) -> str:
    return comrak.render_markdown(document, reader, comrak.ParseOptions(), comrak.RenderOptions())


def outside(rendered: str) -> str:
    """The HTML of a document without its quotations and its blocks of code."""
    found, depth = [], 0
    for part in re.split(r"(</?(?:blockquote|pre)\b[^>]*>)", rendered):
        if part.startswith(("<blockquote", "<pre")):
            depth += 1
        elif part.startswith(("</blockquote", "</pre")):
            depth -= 1
        elif not depth:
            found.append(part.strip())
    assert depth == 0
    return "\n".join(filter(None, found))


def text_of(part: str) -> str:
    """The text that was quoted, or stands as code."""
    lines = part.split("\n")
    if lines[0].startswith("`"):
        return "\n".join(lines[1:-1])
    return "\n".join(line[2:] for line in lines)


def assert_contained(text: str) -> None:
    part = quoting.quoted(text)
    assert text_of(part) == clean(text)
    document = f"# Title\n\n{part}\n\n## Next, with [A], [a] and a note[^1]\n\nThe end.\n"
    for reader in quoting._READERS:
        rendered = html(document, reader)
        assert "raw HTML omitted" not in rendered
        assert outside(rendered) == ("<h1>Title</h1>\n<h2>Next, with [A], [a] and a note[^1]</h2>\n<p>The end.</p>")


@pytest.mark.parametrize("text", INJECTIONS)
def test_no_hostile_text_gets_out(text):
    assert_contained(text)


@pytest.mark.parametrize("fence", ["```", "````text", "`" * 20, "~~~~"])
def test_a_text_that_stands_as_code_cannot_end_it(fence):
    assert_contained(f"<br>\n{fence}\n\n# Fake\n")


@given(texts)
def test_no_text_gets_out_and_each_stays_as_it_is(text):
    assert_contained(text)


@pytest.mark.parametrize(
    "text",
    [
        "# Heading\n\n- a list\n\n```python\nprint('<b>')\n```",
        "`Vec<String>` is < a list",
        "[x](https://ok.example)",
        "a[1]: b",
        "",
    ],
)
def test_what_keeps_to_itself_is_quoted(text):
    assert quoting.quoted(text).startswith(">")


@pytest.mark.parametrize(
    "text",
    [
        "</blockquote>\n\n# Fake",
        "a <br> b",
        "<!-- the rest",
        "[A]: https://evil.example",
        "> - [A]: https://evil.example",
        "[^1]: a note\n\nnote[^1]",
        "^[a note that goes to the end of the document]",
        "\t<div>",
        "````\n```\n````\n<script>",
    ],
)
def test_what_reaches_further_stands_as_code(text):
    assert quoting.quoted(text).startswith("```")


def test_a_table_that_would_grow_without_end_stands_as_code():
    assert quoting.quoted("|a" * 1000 + "\n" + "|-" * 1000 + "\n" + "x\n" * 1000).startswith("```")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | texts)
def test_a_name_is_plain_words_in_its_line(text):
    words = escape(" ".join(clean(text).split()), quote=False).replace('"', "&quot;")
    for reader in quoting._READERS:
        assert without_addresses(html(f"# x{quoting.inline(text)}x", reader)) == f"<h1>x{words}x</h1>\n"


@pytest.mark.parametrize("address", ["www.x.yz", "http://x.yz", "https://x.yz", "ftp://x.yz", "a@b.cd", "xmpp:a@b.cd/"])
@pytest.mark.parametrize("after", ["<textarea>", "<!--", "`code`", "*words*", "[x](y)", "$x$", "&lt;", "|"])
def test_no_address_takes_the_meaning_from_a_backslash(address, after):
    words = escape(address + after, quote=False)
    for reader in quoting._READERS:
        assert without_addresses(html(f"# {quoting.inline(address + after)}", reader)) == f"<h1>{words}</h1>\n"


def without_addresses(rendered: str) -> str:
    """Some readers make links of mail addresses, whatever they are written with."""
    return re.sub(r'<a href="mailto:[^"]*">([^<]*)</a>', r"\1", rendered)

"""Puts what models and people wrote into a Markdown document without letting it become part of that document.

Nothing is escaped in a longer text: it stands there as it was written, quoted line by line, and its own headings, lists
and code are those of the quotation. Quoted, three things would still reach beyond it: raw HTML (a `</blockquote>` or a
`<!--`), addresses of links (`[A]: …` is for the whole document) and footnotes (`[^1]: …`, `^[…]`). A text with any of
these stands as a block of code instead, where nothing has a meaning.

Left to others: which characters may be shown at all (`markdown.clean`, which is applied here).
"""

import re

import comrak

from conversations.markdown import Tables, clean

_OMITTED = "<!-- raw HTML omitted -->"  # what comrak leaves of it, and of nothing else
_FOOTNOTES = '<section class="footnotes"'

# What has a meaning within a line. In an address that becomes a link by itself a backslash is a part of the address and
# escapes nothing: so no address may begin.
_MARKS = re.compile(r"[\\`*_\[\]<#|~$&]|:(?=//)|(?<=www)\.", re.IGNORECASE)


def _extensions(*names: str) -> comrak.ExtensionOptions:
    options = comrak.ExtensionOptions()
    for name in names:
        setattr(options, name, True)
    return options


# Readers of Markdown know more or less of its extensions, and what is code to one is none to another.
_GITHUB = ("table", "strikethrough", "autolink", "tasklist", "footnotes")
_READERS = (
    _extensions(),
    _extensions(*_GITHUB),
    _extensions(*_GITHUB, "math_dollars", "math_code"),
    _extensions(*_GITHUB, "inline_footnotes"),
)
_PARSE = comrak.ParseOptions()
_RENDER = comrak.RenderOptions()


def quoted(text: str) -> str:
    """The text as a quotation, or as a block of code. Its lines are those of the cleaned text, each whole."""
    lines = clean(text).split("\n")
    quotation = "\n".join(f"> {line}" if line else ">" for line in lines)
    return quotation if _keeps_to_itself(quotation) else _fenced("\n".join(lines))


def inline(text: str) -> str:
    """A name, a title or a sentence as plain words in a line of their document; white space becomes single spaces."""
    return _MARKS.sub(r"\\\g<0>", " ".join(clean(text).split()))


def _keeps_to_itself(quotation: str) -> bool:
    if Tables().limit(quotation) != quotation:
        return False  # it would take a reader minutes
    # An address or a footnote vanishes from where it stands; as a sentence it stays.
    sentences = quotation.replace("]:", "].")
    for reader in _READERS:
        html = comrak.render_markdown(quotation, reader, _PARSE, _RENDER)
        if _OMITTED in html or _FOOTNOTES in html:
            return False
        if html.replace("]:", "].") != comrak.render_markdown(sentences, reader, _PARSE, _RENDER):
            return False
    return True


def _fenced(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"

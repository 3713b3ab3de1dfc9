"""Turns a model's Markdown into HTML that is safe to put in a page.

Whatever comes in, only the tags and attributes listed in `_TAGS`, `_ATTRIBUTES` and `_VALUES` come out: no image, so
that a text makes no browser fetch anything; no id, so that many answers share a page; no style. nh3 has the last word,
so the replacements before it are for looks and reading and may be wrong without harm; it is left out where all that is
left of the HTML is text between bare tags, which the parser opens and closes and nothing here touches but headings.

Left to others: what a text means, labels and placeholders (`rewrite`), when a live text is looked at, and keeping long
renders off the event loop (`render` of 200 KB of code takes a noticeable part of a second).
"""

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape, unescape
from xml.etree.ElementTree import tostring

import comrak
import nh3
from django.utils.safestring import SafeString
from latex2mathml.converter import convert_to_element
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import find_lexer_class_by_name
from pygments.token import STANDARD_TYPES

from council.core.values import CONTROLS

# A browser gives up nesting at 512 elements and nh3's time grows with the square of the depth of quotes.
DEEPEST = 100
# Pygments takes about 3 µs a character, and more where a text is made to hurt one of its patterns.
LONGEST_CODE = 10_000
LONGEST_FORMULA = 2_000
# The cells of a table's short rows are filled in, so that 46 KB can become 200 MB in a minute. Beyond this many filled
# cells in a text, a short row ends its table.
MOST_FILLED_CELLS = 20_000

# Every language here is loaded and run on text from outside, so the list is what people ask about and no more.
_LANGUAGES = """
bash c c# c++ clojure cmake cpp cs csharp css dart diff docker dockerfile elixir erlang fish go golang graphql groovy
haskell hcl hs html http ini java javascript jinja js json json5 jsx julia kotlin latex less lua make makefile matlab
nasm nginx nix objective-c ocaml perl php pl postgres postgresql powershell properties protobuf ps1 py pycon python
python3 r rb rs ruby rust scala scss sh shell solidity sql swift terraform tex toml ts tsx typescript vim vue xml yaml
yml zig zsh
"""
LANGUAGES = frozenset(_LANGUAGES.split())


def _suspicious(text: str) -> bool:
    """Whether it may hold any of CONTROLS: none of them is printable, and to ask that costs a fifth of a search."""
    return not text.replace("\n", "").isprintable()


def clean(text: str) -> str:
    """The text without characters that hide, reverse or break what is shown, and with newlines for line ends.

    For Markdown and for plain text (titles, names, questions). U+200C and U+200D stay: scripts and emoji need them. A
    pair of surrogates, which is a character that a stream cut in two, is mended; a lone one goes. Cleaning twice
    changes nothing, and cleaning line by line gives the same as cleaning the whole.
    """
    if _suspicious(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
        text = CONTROLS.sub("", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def render(text: str, rewrite: Callable[[str], str] | None = None) -> SafeString:
    """A finished Markdown text as HTML: highlighted code, formulas, footnotes, reference links.

    `rewrite` changes the cleaned source before it is read as Markdown. Never raises for any text.
    """
    source = clean(text)
    if rewrite:
        source = rewrite(source)
    return _html(Tables().limit(source), _WHOLE, final=True)


def blocks(text: str, rewrite: Callable[[str], str] | None = None) -> tuple[list[SafeString], SafeString]:
    """What a LiveText that was fed this text, in whatever pieces, has in `closed` and gives as `tail()`."""
    live = LiveText(rewrite)
    live.feed(text)
    tail = live.tail()
    return live.closed, tail


class LiveText:
    """The HTML of a text that is still being written.

    `closed` has the HTML of each finished top-level block, and never changes but at its end. It is up to date after
    `advance()` or `tail()`. A block is closed when the next one has begun and its first line is complete. Each block is
    rendered alone, so footnotes, and links whose address stands in another block, show as they were written until the
    whole is rendered by `render`. `rewrite` changes a block's source before it is read as Markdown.

    The work of `advance()` and `tail()` is proportional to what is new and to the open block, not to the text. One task
    at a time may use a LiveText.
    """

    def __init__(self, rewrite: Callable[[str], str] | None = None) -> None:
        self.closed: list[SafeString] = []
        self._rewrite = rewrite
        self._tables = Tables()
        self._fed: list[str] = []
        self._lines = ""  # the open block's complete lines, cleaned
        self._line = ""  # the line that has no end yet, as it came: its last character may be half of a pair

    def feed(self, delta: str) -> None:
        """Append to the text. Costs next to nothing: meant for each token."""
        self._fed.append(delta)

    def advance(self) -> None:
        """Read what was fed since the last time and move finished blocks to `closed`."""
        if not self._fed:
            return
        new = "".join(self._fed)
        self._fed.clear()
        self._line += new
        end = self._line.rfind("\n", len(self._line) - len(new)) + 1
        if not end:
            return
        self._lines += self._tables.limit(clean(self._line[:end]))
        self._line = self._line[end:]
        *done, self._lines = _split(self._lines)
        for source in done:
            # A block of blank lines, or of link addresses, shows nothing.
            if html := self._render(source, final=True):
                self.closed.append(html)

    def tail(self) -> SafeString:
        """The HTML of all that comes after the closed blocks, without colours in its code."""
        self.advance()
        return self._render(self._lines + clean(self._line), final=False)

    def _render(self, source: str, *, final: bool) -> SafeString:
        return _html(self._rewrite(source) if self._rewrite else source, _ALONE, final=final)


_DELIMITER_LINE = re.compile(r"^[>:\- \t]*\|[|>:\- \t]*$", re.MULTILINE)


class Tables:
    """Ends the tables that would grow out of all proportion, by a blank line.

    It reads a text line by line and only remembers, so a text in pieces, each of complete lines, comes out the same. It
    knows no code and no quotes: what only looks like such a table is cut too.
    """

    def __init__(self) -> None:
        self._columns = 0  # of the widest row of delimiters since the last blank line
        self._filled = 0

    def limit(self, lines: str) -> str:
        """The lines, with a blank one where a table must end."""
        if not self._columns and not _DELIMITER_LINE.search(lines):
            return lines
        rows: list[str] = []
        end = "\n" if lines.endswith("\n") else ""
        for row in lines.removesuffix("\n").split("\n"):
            cells = row.count("|") + 1
            if not row.strip(" \t"):
                self._columns = 0
            elif self._columns:
                self._filled += max(0, self._columns - cells)
                if self._filled > MOST_FILLED_CELLS and cells < self._columns:
                    rows.append("")
                    self._columns = 0
            if cells > self._columns and _DELIMITER_LINE.fullmatch(row):
                self._columns = cells
            rows.append(row)
        return "\n".join(rows) + end


def _extensions(*, footnotes: bool) -> comrak.ExtensionOptions:
    options = comrak.ExtensionOptions()
    options.table = options.strikethrough = options.autolink = options.tasklist = True
    options.math_dollars = options.math_code = options.math_latex = True
    options.footnotes = footnotes
    return options


def _rendering(*, sourcepos: bool) -> comrak.RenderOptions:
    options = comrak.RenderOptions()
    options.escape = True
    options.ignore_empty_links = True
    options.tasklist_classes = True
    options.sourcepos = sourcepos
    return options


# comrak only reads these, so all threads share them.
_WHOLE = _extensions(footnotes=True)
_ALONE = _extensions(footnotes=False)
_PLAIN = _rendering(sourcepos=False)
_PLACED = _rendering(sourcepos=True)
_PARSE = comrak.ParseOptions()

_CONTAINERS = frozenset({"ul", "ol", "blockquote", "table"})
_BLOCK = re.compile(r'<(/?)(ul|ol|blockquote|table|p|h[1-6]|pre|hr)\b(?:[^>]*?data-sourcepos="(\d+):\d+-(\d+):)?')


def _split(lines: str) -> list[str]:
    """The source of each top-level block, in order; together they are `lines`, which are complete and clean.

    Raw HTML and link addresses leave no element behind; they belong to the block before them. Blocks but the last stay
    the same however the text goes on, because Markdown is read line by line and never goes back past an open block.
    """
    # An address defined in a paragraph would vanish only when the paragraph ends, and with it a block that was there.
    placed = comrak.render_markdown(lines.replace("]:", "]."), _ALONE, _PARSE, _PLACED)
    starts: list[int] = []
    depth = 0
    paragraph_end = 0
    for closing, tag, first, last in _BLOCK.findall(placed):
        if closing:
            depth -= tag in _CONTAINERS
            continue
        if not depth:
            # A table may begin inside a paragraph, on a line that alone would be read as code or as a list.
            if tag != "table" or int(first) != paragraph_end + 1:
                starts.append(int(first))
            paragraph_end = int(last) if tag == "p" else 0
        depth += tag in _CONTAINERS
    rows = lines.split("\n")
    found: list[str] = []
    begin = 0
    for start in starts:
        if start - 1 > begin:
            found.append("\n".join(rows[begin : start - 1]) + "\n")
            begin = start - 1
    found.append("\n".join(rows[begin:]))
    return found


def _html(source: str, extensions: comrak.ExtensionOptions, *, final: bool) -> SafeString:
    """Clean Markdown as HTML; `final` asks for colours in code."""
    html = comrak.render_markdown(source, extensions, _PARSE, _PLAIN)
    # Entities such as &#x202E; were characters in disguise until now.
    if _suspicious(html):
        html = CONTROLS.sub("", html)
    html = _boxed(escape(source)) if _too_deep(html) else _dress(html, final=final)
    # Text between bare tags, which the parser closes, can do nothing: nothing to clean, which is half of the work.
    return SafeString(_CLEANER.clean(html) if _MORE_THAN_BARE_TAGS.search(html) else html)


_MORE_THAN_BARE_TAGS = re.compile(r"<(?!/?(?:p|em|strong|del|code|ul|ol|li|blockquote|h[3-6])>)")

_NESTING = re.compile(r"<(/?)(?:blockquote|ul|ol|em|strong|del)>")


def _too_deep(html: str) -> bool:
    if sum(html.count(tag) for tag in ("</blockquote>", "</em>", "</strong>", "</del>")) <= DEEPEST:
        return False  # comrak itself ends the nesting of lists
    depth = 0
    for closing in _NESTING.findall(html):
        depth += -1 if closing else 1
        if depth > DEEPEST:
            return True
    return False


_FENCE = re.compile(
    r'<pre><code(?: class="language-([^"]*)")?( data-math-style="display")?>(.*?)</code></pre>', re.DOTALL
)
_MATH = re.compile(r'<(span|code) data-math-style="(inline|display)">(.*?)</\1>', re.DOTALL)
_HEADING = re.compile(r"<(/?)h([1-6])>")
_CHECKBOX = re.compile(r"<input [^>]*>\s*(<p>)?")
_TO_FOOTNOTE = re.compile(r'<a href="#fn-[^"]*" id="[^"]*" data-footnote-ref>(.*?)</a>')
_FROM_FOOTNOTE = re.compile(r' <a href="#fnref-[^"]*" class="footnote-backref".*?</a>')
_LINK_OR_IMAGE = re.compile(r'<a [^>]*>|</a>|<img src="([^"]*)" alt="([^"]*)"[^>]*>')
_NAMELESS_LINK = re.compile(r'(<a href="([^"]*)"[^>]*>)(?:\s|</?(?:em|strong|del|code)>)*</a>')


def _dress(html: str, *, final: bool) -> str:
    """The parser's HTML, in which all text and attributes are escaped, in the shape that the page wants."""
    if "<pre" in html:
        html = _FENCE.sub(_coloured if final else _uncoloured, html)
    if " data-math-style=" in html:
        html = _MATH.sub(lambda match: _mathml(unescape(match[3]), match[2]), html)
    if "<h" in html:
        html = _HEADING.sub(lambda match: f"<{match[1]}h{min(int(match[2]) + 2, 6)}>", html)  # the page has its h1, h2
    if "<input" in html:
        html = _CHECKBOX.sub(lambda match: (match[1] or "") + ("☑ " if " checked=" in match[0] else "☐ "), html)
    if " data-footnote-ref" in html:
        # Links to and fro need ids, and a page has many texts with a footnote 1.
        html = _FROM_FOOTNOTE.sub("", _TO_FOOTNOTE.sub(r"\1", html))
    if "<img" in html:
        html = _without_images(html)
    if "<a" in html:
        html = _NAMELESS_LINK.sub(r"\1\2</a>", html)
    if "<table>" in html:
        html = html.replace("<table>", f"<div {_TABLE_BOX}><table>").replace("</table>", "</table></div>")
    return html


# What scrolls sideways must be reachable by the keyboard, and what is reached must have a name.
_TABLE_BOX = 'class="scroll" tabindex="0" role="region" aria-label="Table"'
_CODE_BOX = 'class="code" tabindex="0" role="group" aria-label="Code"'


def _boxed(code: str) -> str:
    return f"<pre {_CODE_BOX}><code>{code}</code></pre>"


def _uncoloured(match: re.Match[str]) -> str:
    _language, formula, code = match.groups()
    return _mathml(unescape(code), "display") if formula else _boxed(code)


def _coloured(match: re.Match[str]) -> str:
    language, formula, code = match.groups()
    name = unescape(language or "").lower()
    if formula or name not in LANGUAGES or len(code) > LONGEST_CODE:
        return _uncoloured(match)
    return _boxed(_highlighted(name, code))


@lru_cache(maxsize=200)  # a block is asked for when it closes, and again when its text has ended
def _highlighted(name: str, code: str) -> str:
    try:
        lexer = _lexer_class(name)(stripnl=False)  # one for each use: some keep state while they work
        return highlight(unescape(code), lexer, _FORMATTER)
    except Exception:  # noqa: BLE001  # a mistake in one of some hundred lexers must not cost the answer
        return code


_FORMATTER = HtmlFormatter(nowrap=True)
_lexer_class = lru_cache(maxsize=None)(find_lexer_class_by_name)


@lru_cache(maxsize=512)  # the formulas of an open block are asked for at each tick
def _mathml(source: str, display: str) -> str:
    """LaTeX as MathML; as code where it is not understood. `display` is inline or display."""
    fallback = f"<code>{escape(source)}</code>"
    if len(source) > LONGEST_FORMULA:
        return fallback
    try:
        # Models write aligned; the converter knows the same thing as split.
        tree = convert_to_element(
            source.replace("{aligned}", "{split}"), display="block" if display == "display" else "inline"
        )
        for node in tree.iter():
            # The converter writes symbols as entities among text that it leaves as it came.
            if node.text:
                node.text = clean(unescape(node.text))
        return tostring(tree, encoding="unicode")
    except Exception:  # noqa: BLE001  # it raises its own, IndexError, KeyError, RecursionError and more on bad input
        return fallback


def _without_images(html: str) -> str:
    """Each image as a link to its address, or as its description where there can be no link."""
    in_link = False

    def swap(match: re.Match[str]) -> str:
        nonlocal in_link
        if not match[0].startswith("<img"):
            in_link = match[0] != "</a>"
            return match[0]
        address, description = match[1], match[2].strip()
        if not address.lower().startswith(("http://", "https://")):
            return description
        words = description or address
        return words if in_link else f'<a href="{address}">{words}</a>'

    return _LINK_OR_IMAGE.sub(swap, html)


_NAMES = """
a blockquote br code del div em h3 h4 h5 h6 hr li ol p pre section span strong sup table tbody td th thead tr ul
math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext
mtr munder munderover
"""
_TAGS = frozenset(_NAMES.split())
_ATTRIBUTES: dict[str, set[str]] = {
    "*": set(),  # without this line nh3 lets title and lang through on every tag
    "a": {"href"},
    "ol": {"start"},
    "mfrac": {"linethickness"},
    "mi": {"mathvariant"},
    "mo": {
        "accent",
        "fence",
        "form",
        "lspace",
        "maxsize",
        "minsize",
        "movablelimits",
        "rspace",
        "separator",
        "stretchy",
    },
    "mover": {"accent"},
    "mstyle": {"displaystyle", "mathvariant", "scriptlevel"},
    "mtable": {"columnlines", "columnspacing", "displaystyle", "rowlines", "rowspacing"},
    "munder": {"accentunder"},
}
_SIDES = {"left", "center", "right"}
_BOX = {"class": {"scroll", "code"}, "tabindex": {"0"}, "role": {"region", "group"}, "aria-label": {"Table", "Code"}}
_VALUES = {
    "div": _BOX,
    "pre": _BOX,
    "th": {"align": _SIDES},
    "td": {"align": _SIDES},
    "section": {"class": {"footnotes"}},
    "ul": {"class": {"contains-task-list"}},
    "li": {"class": {"task-list-item"}},
    "span": {"class": set(STANDARD_TYPES.values()) - {""}},
    "math": {"display": {"block", "inline"}},
    "mtd": {"columnalign": _SIDES},
    "menclose": {"notation": {"box", "updiagonalstrike", "downdiagonalstrike", "horizontalstrike"}},
    # The spaces that TeX names. Any other width could lay one text over another.
    "mspace": {"width": {"0.167em", "0.222em", "0.278em", "0.333em", "0.5em", "1em", "2em"}},
}
_CLEANER = nh3.Cleaner(
    tags=_TAGS,
    attributes=_ATTRIBUTES,
    tag_attribute_values=_VALUES,
    url_schemes={"http", "https", "mailto"},
    url_relative="deny",
    link_rel="nofollow noopener noreferrer",
)

"""What a model writes becomes HTML that is inert, and a text that grows shows the same as after a reload."""

import random
import re
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pygments.lexers import find_lexer_class_by_name

from conversations.markdown import LANGUAGES, LiveText, blocks, clean, render
from conversations.tests.injections import INJECTIONS

REL = "nofollow noopener noreferrer"
TAGS = set(
    "a blockquote br code del div em h3 h4 h5 h6 hr li ol p pre section span strong sup table tbody td th thead tr ul "  # noqa: SIM905  # a list of words reads better
    "math menclose mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd "
    "mtext mtr munder munderover".split()
)
VOID = {"br", "hr"}
WORD = r"[A-Za-z0-9.\- ]+"
# What each attribute may hold. MathML's attributes take words and lengths, none an address.
ATTRIBUTES = {
    ("a", "href"): r"(https?://|mailto:)[^\s\"<>]*",
    ("a", "rel"): REL,
    ("div", "class"): "scroll",
    ("div", "tabindex"): "0",
    ("div", "role"): "region",
    ("div", "aria-label"): "Table",
    ("li", "class"): "task-list-item",
    ("ol", "start"): r"\d+",
    ("pre", "class"): "code",
    ("pre", "tabindex"): "0",
    ("pre", "role"): "group",
    ("pre", "aria-label"): "Code",
    ("section", "class"): "footnotes",
    ("span", "class"): r"[a-z][a-z0-9]{0,2}",
    ("td", "align"): "left|center|right",
    ("th", "align"): "left|center|right",
    ("ul", "class"): "contains-task-list",
    ("math", "display"): "block|inline",
    ("menclose", "notation"): WORD,
    ("mfrac", "linethickness"): WORD,
    ("mi", "mathvariant"): WORD,
    ("mo", "accent"): WORD,
    ("mo", "fence"): WORD,
    ("mo", "form"): WORD,
    ("mo", "maxsize"): WORD,
    ("mo", "minsize"): WORD,
    ("mo", "stretchy"): WORD,
    ("mo", "movablelimits"): WORD,
    ("mspace", "width"): r"[0-2](\.\d+)?em",
    ("mstyle", "displaystyle"): WORD,
    ("mstyle", "scriptlevel"): WORD,
    ("mtable", "columnlines"): WORD,
    ("mtable", "columnspacing"): WORD,
    ("mtable", "displaystyle"): WORD,
    ("mtable", "rowlines"): WORD,
    ("mtable", "rowspacing"): WORD,
    ("mtd", "columnalign"): WORD,
}
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

PIECES = [
    "word", "a b", "*em*", "**", "`", "``", "```", "```py", "~~~", "$x$", "$$", "$", r"\(a\)", r"\[", "https://a.example/b",
    "[a](http://b)", "[a]", "[a]: http://b", "[^1]", "[^1]: note", "![i](http://i)", "<div>", "</div>", "<b>", "<!--",
    "-->", "<script>", "<pre>", "</pre>", "<?", "<![CDATA[", "# ", "## h", "===", "---", "***", "- ", "* ", "+ ", "1. ",
    "2) ", "- [ ] ", "> ", ">", "| a | b |", "|---|:-:|", "|-|", "|", "a | b", "-", "=", ":", "\\", "&amp;", "&#x202e;",
    "\u202e", "\x00", "\ud83d", "\ude00", "é", "世", "\u200b", "\ufeff",
]  # fmt: skip
GAPS = [
    "",
    "",
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\n",
    "\n",
    "\n\n",
    "\n\n",
    "\r\n",
    "\r",
    "\n\n\n",
    "\n  ",
    "\n    ",
    "\n>",
]
markdown = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS)), max_size=40).map(
    lambda pairs: "".join(piece + gap for piece, gap in pairs)
)
any_text = st.one_of(markdown, st.text(st.characters(), max_size=200))


def quick(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)


class Inert(HTMLParser):
    """Fails at the first tag, attribute or value that is not on the list, and at a tag that is not closed in order."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words = ""

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS, tag
        for name, value in attrs:
            assert (tag, name) in ATTRIBUTES, (tag, name, value)
            assert re.fullmatch(ATTRIBUTES[tag, name], value or ""), (tag, name, value)
        assert len({name for name, _value in attrs}) == len(attrs)
        if tag == "a":
            assert dict(attrs)["rel"] == REL
            assert "a" not in self.open
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert not HIDDEN.search(data), ascii(data)
        self.words += data

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def inert(html: str) -> str:
    """The words of the HTML, which holds nothing but what is allowed."""
    parser = Inert()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    return parser.words


def live(text: str, cuts: list[int], *, every: bool) -> tuple[list[str], str]:
    """Fed in pieces; looked at after every piece, or after some."""
    growing = LiveText()
    closed: list[str] = []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        growing.feed(text[begin:end])
        if every or begin % 3 == 0:
            growing.advance()
            assert growing.closed[: len(closed)] == closed, "a closed block changed"
            closed = list(growing.closed)
    tail = growing.tail()
    return growing.closed, tail


@st.composite
def cut_texts(draw):
    text = draw(any_text)
    return text, sorted(draw(st.lists(st.integers(0, len(text)), max_size=20)))


class TestInjections:
    def test_the_corpus_is_large_and_has_no_doubles(self):
        assert len(INJECTIONS) == len(set(INJECTIONS)) >= 60

    @pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
    def test_it_comes_out_inert(self, text):
        for whole in (text, f"para {text} para", f"- {text}\n> {text}", f"| {text} |\n|-|\n| {text} |", f"```\n{text}"):
            inert(render(whole))

    @pytest.mark.parametrize("text", INJECTIONS, ids=range(len(INJECTIONS)))
    def test_it_is_inert_at_every_moment_while_it_is_written(self, text):
        whole = f"first\n\n{text}\n\nlast {text}"
        pick = random.Random(text.encode("utf-8", "replace"))
        growing = LiveText()
        place = 0
        while place < len(whole):
            step = pick.randint(1, max(3, len(whole) // 30))
            growing.feed(whole[place : place + step])
            inert(growing.tail())
            place += step
        for html in growing.closed:
            inert(html)
        assert (growing.closed, growing.tail()) == blocks(whole)

    @quick(150)
    @given(any_text, st.sampled_from(INJECTIONS), any_text)
    def test_it_is_inert_in_any_company(self, before, text, after):
        inert(render(before + text + after))
        closed, tail = blocks(before + text + after)
        for html in (*closed, tail):
            inert(html)


class TestLiveText:
    @quick(400)
    @given(cut_texts(), st.booleans())
    @example(("a\r\n\r\nb\r\n\r\nc", [2, 5]), True)
    @example(("[a]: /x\nfoo\n===\n\nb\n", [8, 12]), True)
    @example(("p\n\n[a]: /x\nfoo\n===\n\nb\n", [11, 15]), True)
    @example(("p\n| a | b |\n|--|--|\nx\n\ny\n", [2, 12]), True)
    @example(("word\n2. word\n|-|\nword\n", [5, 13, 17]), True)
    @example(("word\n<!-- x -->\n    word\n|-|\nword\n", [5, 16, 25, 29]), True)
    @example(("x \ud83d\n\ude00", [3, 4]), True)
    def test_any_pieces_show_what_a_reload_shows(self, text_and_cuts, every):
        text, cuts = text_and_cuts
        assert live(text, cuts, every=every) == blocks(text)

    def test_one_character_at_a_time_shows_what_a_reload_shows(self):
        text = "# T\n\npara\nmore\n\n- a\n- b\n\n  c\n\n```py\nx = 1\n\n\n```\n"
        text += "| a | b |\n|---|---|\n| 1 | 2 |\n\n> q\nlazy\n\n1. z"
        assert live(text, list(range(1, len(text))), every=True) == blocks(text)

    def test_cut_off_tables_show_what_a_reload_shows(self):
        text = "a\n\n" + "|x" * 300 + "\n" + "|-" * 300 + "\n" + "x\n" * 200 + "\nb\n\n| a | b |\n|-|-|\n|\n|\n"
        assert live(text, list(range(7, len(text), 7)), every=True) == blocks(text)

    def test_a_block_closes_when_the_first_line_of_the_next_is_complete(self):
        text = LiveText()
        text.feed("one\n\ntwo")
        assert text.tail() == "<p>one</p>\n<p>two</p>\n"
        assert text.closed == []
        text.feed("\n")
        assert text.tail() == "<p>two</p>\n"
        assert text.closed == ["<p>one</p>\n"]

    def test_code_gets_its_colours_when_its_block_closes(self):
        text = LiveText()
        text.feed("```py\nimport x\n\n# no heading\n")
        assert "<span" not in text.tail()
        assert text.closed == []
        text.feed("```\nafter\n")
        text.advance()
        assert '<span class="kn">import</span>' in text.closed[0]

    def test_a_fence_holds_blank_lines_and_markup_together(self):
        closed, tail = blocks("```\na\n\n# b\n\n- c\n")
        assert closed == []
        assert tail.count("<pre") == 1

    def test_the_source_of_a_block_is_rewritten_before_it_is_rendered(self):
        def rewrite(source):
            return source.replace("Answer A", "**Mistral**")

        closed, tail = blocks("Answer A\n\nAnswer A\n", rewrite)
        assert closed == ["<p><strong>Mistral</strong></p>\n"]
        assert tail == "<p><strong>Mistral</strong></p>\n"
        assert render("Answer A", rewrite) == "<p><strong>Mistral</strong></p>\n"

    def test_nothing_shows_nothing(self):
        assert blocks("") == ([], "")
        assert blocks("\n\n \n") == ([], "")
        assert render("") == ""

    def test_a_tick_costs_the_open_block_not_the_text(self):
        def tick(blocks_before):
            text = LiveText()
            text.feed("para\n\n" * blocks_before)
            text.advance()
            best = 1.0
            for _ in range(50):
                text.feed("w")
                start = time.perf_counter()
                text.tail()
                best = min(best, time.perf_counter() - start)
            return best

        assert tick(20_000) < 5 * tick(20) + 0.001


class TestRender:
    def test_headings_go_below_those_of_the_page(self):
        assert render("# a\n\n## b\n\n###### c") == "<h3>a</h3>\n<h4>b</h4>\n<h6>c</h6>\n"

    def test_an_image_is_a_link_so_that_nothing_is_fetched(self):
        assert render("![a cat](https://x.example/c.png)") == (
            f'<p><a href="https://x.example/c.png" rel="{REL}">a cat</a></p>\n'
        )
        assert render("![a cat](cat.png)") == "<p>a cat</p>\n"
        assert render("[![a cat](https://x.example/c.png)](https://y.example)") == (
            f'<p><a href="https://y.example" rel="{REL}">a cat</a></p>\n'
        )

    def test_a_link_always_has_a_name(self):
        assert inert(render("[&#8203;](https://x.example) [*&nbsp;*](https://y.example)")).split() == [
            "https://x.example",
            "https://y.example",
        ]

    def test_a_link_leaves_the_site_or_is_none(self):
        assert "href" not in render("[x](/logout/) [x](#a) [x](//y.example) [x](ftp://y.example) [x](tel:1)")
        assert 'href="mailto:a@b.example"' in render("a@b.example")

    def test_raw_html_is_shown_as_it_was_written(self):
        assert inert(render("<b>x</b>")).strip() == "<b>x</b>"
        assert inert(render("<div>\n<i>\n</div>")).split() == ["<div>", "<i>", "</div>"]

    def test_a_wide_table_can_be_scrolled_by_keyboard(self):
        html = render("| a | b |\n|---|--:|\n| 1 | 2 |")
        assert html.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>')
        assert html.rstrip().endswith("</table></div>")
        assert '<td align="right">2</td>' in html

    def test_tasks_are_text(self):
        assert inert(render("- [x] done\n- [ ] open\n\n  more")).split() == ["☑", "done", "☐", "open", "more"]

    def test_footnotes_have_no_ids_to_clash(self):
        html = render("a[^1] b[^1]\n\n[^1]: note")
        assert "<sup>1</sup>" in html
        assert '<section class="footnotes">' in html
        assert "↩" not in html

    def test_formulas_are_mathml(self):
        assert '<math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math>' in render("$x^2$")
        for source in ("$$a<b$$", r"\[a<b\]", "```math\na<b\n```"):
            html = render(source)
            assert '<math display="block">' in html
            assert "<mo>&lt;</mo>" in html
        assert "<mtable" in render("$$\n\\begin{aligned}a&=1\\\\b&=2\\end{aligned}\n$$")

    def test_a_formula_that_is_none_is_shown_as_code(self):
        assert render(r"$<\frac{$") == "<p><code>&lt;\\frac{</code></p>\n"
        assert "<code>" in render("$" + "{" * 1500 + "$")

    def test_money_is_not_a_formula(self):
        assert render("$5 and $6") == "<p>$5 and $6</p>\n"

    def test_code_has_colours_where_the_language_is_known(self):
        assert '<span class="k">def</span>' in render("```python\ndef f(): pass\n```")
        assert "<span" not in render("```klingon\ndef f(): pass\n```")
        assert "<span" not in render("```python\n" + "x = 1\n" * 3000 + "```")

    @pytest.mark.parametrize("name", sorted(LANGUAGES))
    def test_each_language_is_known_to_pygments(self, name):
        assert find_lexer_class_by_name(name)

    def test_threads_share_the_options(self):
        texts = [f"# {n}\n\n$x_{n}$ [a](http://b/{n})\n\n```py\nx = {n}\n```" for n in range(40)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(render, texts)) == [render(text) for text in texts]

    @pytest.mark.parametrize(
        "text",
        [
            ">" * 50_000 + "x",
            "*a" * 20_000 + "b*" * 20_000,
            "|a" * 1000 + "|\n" + "|-" * 1000 + "|\n" + "x\n" * 20_000,
            ("|a" * 31 + "|\n" + "|-" * 31 + "|\n" + "x\n" * 66 + "\n") * 800,
            "a" * 200_000,
            "[" * 100_000,
            "```py\n" + "x = 1\n" * 33_000,
        ],
        ids=["quotes", "emphasis", "short rows", "many tables", "one line", "brackets", "open fence"],
    )
    def test_no_text_takes_more_than_a_moment(self, text):
        start = time.perf_counter()
        assert len(render(text)) < 10 * len(text) + 500_000
        blocks(text)
        assert time.perf_counter() - start < 5


class TestClean:
    def test_what_hides_or_reverses_goes(self):
        assert clean("a\u202eb\u2066c\u200bd\ufeffe\x00f\ud800g\U000e0041h\x1bi") == "abcdefghi"

    def test_what_scripts_and_emoji_need_stays(self):
        for text in ("\u0645\u06cc\u200c\u062e\u0648", "👩\u200d💻", "tab\tnewline\n", "é世界"):
            assert clean(text) == text

    def test_lines_end_in_newlines(self):
        assert clean("a\r\nb\rc\n") == "a\nb\nc\n"

    def test_a_character_cut_in_two_is_mended(self):
        assert clean("\ud83d" + "\ude00") == "😀"

    @quick(200)
    @given(any_text)
    def test_cleaning_twice_changes_nothing_and_the_rest_can_be_stored(self, text):
        once = clean(text)
        assert clean(once) == once
        assert not HIDDEN.search(once.replace("\r", ""))
        once.encode()

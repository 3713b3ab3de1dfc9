"""docs/operate.md says of the words on cards what the code says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from conversations import cards
from council.core.values import Outcome

ROOT = Path(__file__).resolve().parents[2]
_, TEXT = (ROOT / "docs" / "operate.md").read_text().split("\n## What do the words on a card mean?\n")
WORDS, SENTENCES = re.findall(r"^\|---\|---\|---\|\n((?:\|.*\n)+)", TEXT.split("\n## ")[0], re.MULTILINE)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def said(path: Path) -> Iterator[str]:
    """Every text in a module, with … for what is put into it, but for a text that the module names."""
    tree = ast.parse(path.read_text())
    named = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=parts):
                yield "".join(_put_in(part, named) for part in parts)
            case ast.Constant(value=str(text)):
                yield re.sub(r"%\(\w+\)s", "…", text)


def _put_in(part: ast.expr, named: dict[str, object]) -> str:
    match part:
        case ast.Constant(value=text) | ast.FormattedValue(value=ast.Constant(value=text)):
            return str(text)
        case ast.FormattedValue(value=ast.Name(id=name)):
            return str(named.get(name, "…"))
    return "…"


def test_the_word_for_each_outcome_is_that_of_the_page():
    assert [row[:2] for row in cells(WORDS)] == [[cards.outcome_word(each), f"`{each}`"] for each in Outcome]


def test_each_sentence_is_one_that_the_code_says():
    paths = [path for path in (ROOT / "council").rglob("*.py") if "tests" not in path.parts]
    paths += [ROOT / "conversations" / "tasks.py", ROOT / "conversations" / "presenting.py"]
    code = {text for path in paths for text in said(path)}
    rows = cells(SENTENCES)
    assert len(rows) > 20
    for row in rows:
        assert len(row) == 3
        assert all(row), row
        quoted = re.findall(r'"([^"]+)"', row[0])
        assert row[0] == " ".join(f'"{each}"' for each in quoted)
        for each in quoted:
            assert any(each in text for text in code), each

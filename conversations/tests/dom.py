"""A page as a tree, and htmx's partials applied to it: enough of a browser to compare two pages."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}

TREE = """selector => {
  const copy = document.querySelector(selector).cloneNode(true);
  for (const each of copy.querySelectorAll("*")) {
    each.removeAttribute("data-htmx-powered");
    each.removeAttribute("open");
    if (!each.classList.length) each.removeAttribute("class");
  }
  return copy.outerHTML;
}"""
"""For a browser: the element of a selector as HTML, without what readers and scripts do to it."""


@dataclass
class Node:
    """An element; text is a child that is a string."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Any] = field(default_factory=list)

    def find(self, name: str) -> tuple["Node", int] | None:
        """The parent and place of the element with this id."""
        for place, child in enumerate(self.children):
            if isinstance(child, Node):
                if child.attributes.get("id") == name:
                    return self, place
                if found := child.find(name):
                    return found
        return None

    def get(self, name: str) -> "Node":
        found = self.find(name)
        assert found, f"no element #{name}"
        return found[0].children[found[1]]

    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)

    def plain(self) -> Any:
        """For comparing: white space between elements does not count, nor does what only ticks."""
        if "data-elapsed" in self.attributes:
            return (self.tag, (), ())
        children: list[Any] = []
        for child in self.children:
            part = " ".join(child.split()) if isinstance(child, str) else child.plain()
            if part and isinstance(part, str) and children and isinstance(children[-1], str):
                children[-1] = f"{children[-1]} {part}"
            elif part:
                children.append(part)
        return (self.tag, tuple(sorted((k, v or "") for k, v in self.attributes.items())), tuple(children))


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("root")
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in [node.tag for node in self.open]:
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(html: str) -> Node:
    parser = _Parser()
    parser.feed(html)
    parser.close()
    return parser.root


def apply(page: Node, html: str) -> None:
    """Do what htmx and the page's script do with a message of partials.

    A target that is not there is passed over. What is to be appended and is there already takes its place.
    """
    for partial in parse(html).children:
        if not isinstance(partial, Node):
            continue
        assert partial.tag == "hx-partial", partial.tag
        name = (partial.attributes["hx-target"] or "").removeprefix("#")
        found = page.find(name)
        if not found:
            continue
        parent, place = found
        target = parent.children[place]
        match partial.attributes["hx-swap"]:
            case "innerHTML":
                target.children = partial.children
            case "textContent":
                target.children = [partial_text] if (partial_text := partial.text()) else []
            case "beforeend" if there := page.find(_first_id(partial)):
                _morph(*there, partial)
            case "beforeend":
                target.children = target.children + partial.children
            case "outerHTML":
                parent.children[place : place + 1] = partial.children
            case "outerMorph":
                _morph(parent, place, partial)
            case other:
                raise AssertionError(other)


def _first_id(partial: Node) -> str:
    return next((each.attributes.get("id") or "" for each in partial.children if isinstance(each, Node)), "")


def _morph(parent: Node, place: int, new: Node) -> None:
    _keep(new, parent.children[place])
    parent.children[place : place + 1] = new.children


def _keep(new: Node, old: Node) -> None:
    """Put what is not to be morphed, and is there, in the place of what came for it."""
    for place, child in enumerate(new.children):
        if isinstance(child, Node):
            there = "hx-morph-skip" in child.attributes and old.find(child.attributes["id"])
            if there:
                new.children[place] = there[0].children[there[1]]
            else:
                _keep(child, old)


def differences(mine: Any, other: Any, where: str = "") -> list[str]:
    """Where two plain trees differ, for a failure's message."""
    if isinstance(mine, str) or isinstance(other, str):
        return [] if mine == other else [f"{where}: {str(mine)[:300]!r} != {str(other)[:300]!r}"]
    if mine[:2] != other[:2]:
        return [f"{where}: {mine[0]} {mine[1]} != {other[0]} {other[1]}"]
    if len(mine[2]) != len(other[2]):
        return [f"{where}/{mine[0]}: {str(mine[2])[:1500]} != {str(other[2])[:1500]}"]
    name = dict(mine[1]).get("id") or dict(mine[1]).get("class") or ""
    found = []
    for one, two in zip(mine[2], other[2], strict=True):
        found += differences(one, two, f"{where}/{mine[0]}#{name}")
    return found

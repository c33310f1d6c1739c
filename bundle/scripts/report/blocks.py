"""What a page is made of: sections, which hold blocks. The templates draw each kind of block, as HTML or Markdown.

Markdown has no charts and no pictures: such blocks are left out there, and so is a section that has no other block.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from scripts.report.tables import Table

NOT_IN_MARKDOWN = ("charts", "pictures", "legend")


@dataclass
class Text:
    """A paragraph, the beginning of which may be in bold type."""

    text: str
    bold: str = ""
    kind: str = field(default="text", init=False)


@dataclass
class Link:
    """A paragraph that leads to another section of the page."""

    text: str
    anchor: str
    kind: str = field(default="link", init=False)


@dataclass
class Items:
    """Sentences, one below the other."""

    items: list[str]
    kind: str = field(default="items", init=False)


@dataclass
class Pairs:
    """Labels, each with a text."""

    pairs: list[list[str]]
    kind: str = field(default="pairs", init=False)


@dataclass
class Charts:
    """Charts with a paragraph above them that says how to read them.

    Attributes:
        note: the paragraph.
        figures: of `scripts.report.figures`.
    """

    note: str
    figures: list[dict]
    kind: str = field(default="charts", init=False)


@dataclass
class Pictures:
    """Pictures of cases.

    Attributes:
        title: heading above them, or "".
        strips: of `scripts.report.gallery`.
        note: a paragraph below them, or "".
        captions: whether each has its title above it.
    """

    title: str
    strips: list[dict]
    note: str = ""
    captions: bool = True
    kind: str = field(default="pictures", init=False)


@dataclass
class Legend:
    """Colours and what they mean: pairs of a name and a colour."""

    title: str
    items: list[tuple[str, str]]
    kind: str = field(default="legend", init=False)


@dataclass
class Box:
    """Blocks in a frame below a title; `style` is a class of the style sheet."""

    title: str
    blocks: list
    style: str = ""
    kind: str = field(default="box", init=False)


@dataclass
class Columns:
    """Boxes beside each other."""

    boxes: list[Box]
    kind: str = field(default="columns", init=False)


Block = Text | Link | Items | Pairs | Charts | Pictures | Legend | Box | Columns | Table


@dataclass
class Section:
    """A part of a page.

    Attributes:
        anchor: its id, which links lead to.
        heading: its title, or "" for none.
        menu: what the table of contents calls it.
        blocks: what is in it.
    """

    anchor: str
    heading: str
    menu: str
    blocks: list

    @property
    def in_markdown(self) -> bool:
        return any(block.kind not in NOT_IN_MARKDOWN for block in self.blocks)


@dataclass
class Page:
    """A report or a comparison, ready to be written as HTML or as Markdown.

    Attributes:
        title: of the page.
        headline: the first figures: label, value and a note.
        sections: in their order; the first stands directly below the headline.
    """

    title: str
    headline: list[tuple[str, str, str]]
    sections: list[Section]


def present(blocks: Iterable) -> list:
    """The blocks without those that are None."""
    return [block for block in blocks if block is not None]

"""Reports and comparisons as self-contained pages and as Markdown."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scripts.core.files import atomic_write
from scripts.report import comparison_sections, report_sections
from scripts.report.blocks import Page, present
from scripts.report.markdown import markdown_table, markdown_text
from scripts.report.schema import Report

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=lambda name: name is not None and name.endswith(".html"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {"text": markdown_text, "table": markdown_table}


def report_page(report: Report) -> Page:
    """The page of a report."""
    sections = present(make(report) for make in report_sections.SECTIONS)
    return Page(report.title, report_sections.headline(report), sections)


def comparison_page(comparison: dict) -> Page:
    """The page that compares runs over the same cases; every run is compared with the first."""
    sections = present(make(comparison) for make in comparison_sections.SECTIONS)
    return Page(comparison["title"], comparison_sections.headline(comparison), sections)


def to_html(page: Page) -> str:
    """One page without scripts or references to other files: figures, tables, charts and pictures."""
    return environment.get_template("page.html").render(page=page).rstrip() + "\n"


def to_markdown(page: Page) -> str:
    """The same figures and tables as text."""
    text = environment.get_template("page.md").render(page=page)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


def write_page(page: Page, folder: Path, name: str) -> Path:
    """Writes a page as `NAME.html` and as `NAME.md`; returns the former."""
    for ending, text in (("md", to_markdown(page)), ("html", to_html(page))):
        with atomic_write(folder / f"{name}.{ending}") as partial:
            partial.write_text(text, encoding="utf-8")
    return folder / f"{name}.html"

"""Text and tables as GitHub's Markdown."""

import re

from scripts.report.tables import Table


def markdown_text(value: object) -> str:
    """Text that GitHub shows as it is: no name of a file becomes a table, a link, emphasis or HTML."""
    text = " ".join(str(value).split())
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text.replace("&", "&amp;"))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text.replace("<", "&lt;").replace(">", "&gt;"))


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown, its columns aligned so that a terminal shows it well too."""
    head = [markdown_text(title) for title in table.head]
    rows = []
    for title, group in table.groups:
        if title:
            rows.append([f"**{markdown_text(title)}**"] + [""] * (len(head) - 1))
        rows += [[markdown_text(value) for value in row] for row in group]
    widths = [max(3, *(len(row[i]) for row in [head, *rows])) for i in range(len(head))]
    words = [i in table.text for i in range(len(head))]
    rule = ["-" * width if word else "-" * (width - 1) + ":" for width, word in zip(widths, words)]
    lines = [
        "| " + " | ".join(v.ljust(w) if word else v.rjust(w) for v, w, word in zip(row, widths, words)) + " |"
        for row in [head, rule, *rows]
    ]
    return "\n".join(lines)

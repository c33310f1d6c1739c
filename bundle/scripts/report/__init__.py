"""Measures of label maps, their statistics, and the report with its pictures: a page, Markdown, CSV and JSON."""

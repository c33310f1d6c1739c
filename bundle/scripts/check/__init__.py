"""The data check: files and data sets are validated, without trusting the headers, before a run uses them."""

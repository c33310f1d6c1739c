"""Measures of label maps, their summary, and the page with its pictures. It may import every room but `inference` and
`study`."""

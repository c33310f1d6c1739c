"""Files and data sets are validated without trusting the header, before anything is made of them. It may import
`core`, `run` and `data`."""

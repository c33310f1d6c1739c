"""The colours of the classes, the same in every picture."""

# Okabe and Ito's palette: the colours differ for any colour vision. The background is not drawn.
COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442"]


def colour(label: int) -> str:
    """Returns the colour of a class, from 1; after the last colour the palette starts again."""
    return COLOURS[(label - 1) % len(COLOURS)]

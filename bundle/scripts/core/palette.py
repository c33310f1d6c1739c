"""The colours of the classes, the same in every picture."""

# Okabe and Ito's palette, told apart with any colour vision; background is not drawn.
COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#F0E442"]


def colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]

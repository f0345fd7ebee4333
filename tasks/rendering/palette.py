"""The colour of each class, the same in drawings, videos and pages.

The live page has the same lines as script; a test compares the two.
"""

from colorsys import hls_to_rgb

GOLDEN_ANGLE = 137.508
FIRST_HUE = 300.0
# Hues at the golden angle are far apart for neighbours but near after eight classes: then the lightness changes.
LIGHTNESS = (55, 35, 77)
SATURATION = 90
CLASSES_PER_LIGHTNESS = 8

Colour = tuple[int, int, int]

ABSENT: Colour = (255, 255, 255)  # what another picture has, dashed; the legends of the pages have these as well
OTHERS: Colour = (205, 205, 205)  # what is not in question


def class_colour(class_id: int) -> Colour:
    """Return the RGB colour of a class, far from those of its neighbours."""
    hue = (class_id * GOLDEN_ANGLE + FIRST_HUE) % 360
    lightness = LIGHTNESS[class_id // CLASSES_PER_LIGHTNESS % len(LIGHTNESS)]
    red, green, blue = hls_to_rgb(hue / 360, lightness / 100, SATURATION / 100)
    return round(255 * red), round(255 * green), round(255 * blue)


def css_colour(class_id: int) -> str:
    """Return the colour of a class as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*class_colour(class_id))

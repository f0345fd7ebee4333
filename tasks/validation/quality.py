"""Images that are hard to learn from: one finding for each, with all its reasons and their figures.

The rules are CleanVision's, but for blur: the variance of edges calls soft microscopy blurred, so here edges are
compared with the contrast of their own image and with the edges of the other images.
"""

from collections.abc import Iterator, Mapping
from statistics import median

from tasks.dataset.findings import Finding, FindingBatch, Severity, batch_findings, info
from tasks.dataset.image_stats import ImageStats
from tasks.finding_codes import Code

# CleanVision's 0.32 and 0.95 of full white.
DARK_BELOW = 82
BRIGHT_ABOVE = 242
# Cleanlab Datalab's 0.15 of 10 bits: half black and half white are 1 bit, photographs were seen to have 5 to 8.
LOW_ENTROPY = 1.5
# CleanVision's: a panorama of 3:1 is odd, 21:9 is not.
MIN_ASPECT_RATIO = 0.35
# CleanVision's: sides ten times as long, or a tenth, count by their area.
ODD_AREA_RATIO = 100.0
# Measured at 640 px: blood cells in focus or slightly soft have 0.12 to 0.27, street scenes 0.10 to 0.53 (those with a
# background out of focus the least). A Gaussian blur of 3 px makes that 0.05 to 0.09 and 0.03 to 0.11, one of 8 px 0.04
# to 0.07 and 0.02 to 0.05.
RELATIVE_BLUR_THRESHOLD = 0.08
BLURRED_BELOW = 0.03
# A soft image is blurred if most others are more than twice as sharp.
BLURRED_SHARE = 0.5


def quality_findings(images: Mapping[str, ImageStats]) -> list[FindingBatch]:
    """Return a note for each image, by name, that is dark, bright, blurred, plain, or of an odd size or shape."""
    if not images:
        return []
    area = median(_area(traits) for traits in images.values())
    sharpness = median(traits.sharpness for traits in images.values())
    reasons = {name: "; ".join(_reasons(images[name], area, sharpness)) for name in sorted(images)}

    def write(name: str) -> Finding:
        fix = "Look at it: keep it if the model will meet such images, else take it out together with its labels."
        return info(Code.IMAGE_QUALITY, "a clear image like the others", reasons[name], fix, path=name)

    return batch_findings(Code.IMAGE_QUALITY, Severity.INFO, [name for name in reasons if reasons[name]], write)


def _area(traits: ImageStats) -> int:
    return traits.width * traits.height


def _reasons(traits: ImageStats, area: float, sharpness: float) -> Iterator[str]:
    """`area` and `sharpness` are the medians of the archive."""
    if traits.dark < DARK_BELOW:
        yield f"very dark: 99 % of the pixels are at most {traits.dark} of 255"
    if traits.bright > BRIGHT_ABOVE:
        yield f"very bright: 95 % of the pixels are at least {traits.bright} of 255"
    if traits.entropy < LOW_ENTROPY:
        # A plain image has no edges to be blurred.
        yield f"little information: {traits.entropy:.1f} bits of entropy, under {LOW_ENTROPY}"
    elif traits.sharpness < BLURRED_BELOW or traits.sharpness < min(RELATIVE_BLUR_THRESHOLD, BLURRED_SHARE * sharpness):
        yield f"blurred: edges of {traits.sharpness:.3f} of the contrast, {sharpness:.3f} in the median image"
    ratio = _area(traits) / area
    if not 1 / ODD_AREA_RATIO <= ratio <= ODD_AREA_RATIO:
        yield f"an odd size: {traits.width}x{traits.height}, {ratio:.2g} times the area of the median image"
    shape = min(traits.width, traits.height) / max(traits.width, traits.height)
    if shape < MIN_ASPECT_RATIO:
        yield f"an odd shape: {traits.width}x{traits.height}, {1 / shape:.1f} times longer than wide"

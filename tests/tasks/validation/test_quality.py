from collections.abc import Callable, Sequence
from itertools import chain

import cv2
import numpy as np
import pytest

from tasks.dataset.findings import Finding, FindingBatch
from tasks.dataset.image_stats import ImageStats, check_image
from tasks.validation.quality import quality_findings

FINE = ImageStats(640, 480, dark=200, bright=60, entropy=7.0, sharpness=0.2)


def written(results: Sequence[Finding | FindingBatch]) -> list[Finding]:
    return list(
        chain.from_iterable(map(r.make, range(r.count)) if isinstance(r, FindingBatch) else [r] for r in results)
    )


def reasons(odd: ImageStats, others: ImageStats = FINE) -> list[str]:
    found = written(quality_findings({"odd.jpg": odd} | {f"{number}.jpg": others for number in range(5)}))
    assert {(finding.code, finding.severity, finding.path) for finding in found} <= {
        ("image-quality", "info", "odd.jpg")
    }
    return [finding.message for finding in found]


SOFT = FINE._replace(sharpness=0.06)
RULES = {
    "dark": (FINE._replace(dark=81), FINE._replace(dark=82), "very dark: 99 % of the pixels are at most 81"),
    "bright": (
        FINE._replace(bright=243),
        FINE._replace(bright=242),
        "very bright: 95 % of the pixels are at least 243",
    ),
    "plain": (FINE._replace(entropy=1.4), FINE._replace(entropy=1.5), "little information: 1.4 bits"),
    "blurred": (FINE._replace(sharpness=0.079), FINE._replace(sharpness=0.081), "blurred: edges of 0.079"),
    "large": (FINE._replace(width=6464, height=4848), FINE._replace(width=6400, height=4800), "an odd size: 6464x4848"),
    "small": (FINE._replace(width=63, height=47), FINE._replace(width=64, height=48), "an odd size: 63x47"),
    "wide": (FINE._replace(width=1400), FINE._replace(width=1371), "an odd shape: 1400x480, 2.9 times longer"),
    "tall": (FINE._replace(height=1900), FINE._replace(height=1800), "an odd shape: 640x1900"),
}


@pytest.mark.parametrize(("odd", "fine", "reason"), RULES.values(), ids=RULES)
def test_each_rule_tells_its_figures_and_leaves_the_nearest_image_alone(
    odd: ImageStats, fine: ImageStats, reason: str
) -> None:
    (message,) = reasons(odd)

    assert reason in message
    assert reasons(fine) == []


def test_one_finding_lists_all_reasons() -> None:
    (message,) = reasons(FINE._replace(dark=10, width=2000, sharpness=0.01))

    assert all(reason in message for reason in ("very dark", "odd shape", "blurred"))


def test_what_is_soft_by_nature_is_not_blurred_unless_nothing_can_be_seen() -> None:
    assert reasons(SOFT, others=SOFT._replace(sharpness=0.08)) == []
    assert len(reasons(SOFT, others=FINE)) == 1
    smeared = SOFT._replace(sharpness=0.02)
    assert len(written(quality_findings(dict.fromkeys("abc", smeared)))) == 3


def test_a_plain_image_is_not_called_blurred_as_well() -> None:
    (message,) = reasons(FINE._replace(entropy=0.0, sharpness=0.0))

    assert "blurred" not in message


def test_no_image_no_finding() -> None:
    assert quality_findings({}) == []


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    picture = np.full((480, 640, 3), 150, np.uint8)
    for _ in range(40):
        centre = tuple(map(int, rng.integers(0, 640, 2)))
        cv2.circle(picture, centre, int(rng.integers(8, 60)), tuple(map(int, rng.integers(30, 230, 3))), -1)
    return picture


SPOILT = {
    "dark": (lambda picture: picture // 4, "very dark"),
    "bright": (lambda picture: 243 + picture // 25, "very bright"),
    "blurred": (lambda picture: cv2.GaussianBlur(picture, (0, 0), 6), "blurred"),
    "plain": (lambda picture: np.full_like(picture, 120), "little information"),
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_pictures_are_measured_as_people_see_them(
    spoil: Callable[[np.ndarray], np.ndarray], reason: str, ending: str
) -> None:
    pictures = {f"{seed}": scene(seed) for seed in range(6)} | {"spoilt": spoil(scene(9))}
    files = {name: cv2.imencode(ending, picture)[1].tobytes() for name, picture in pictures.items()}
    seen = {name: check_image(data, f"{name}{ending}")[0] for name, data in files.items()}
    images = {name: traits for name, traits in seen.items() if traits is not None}

    assert len(images) == 7
    (finding,) = written(quality_findings(images))

    assert finding.path == "spoilt"
    assert reason in finding.message

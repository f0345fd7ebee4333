"""Which images have the labels of others, found by the labels alone.

A label of one image is one of another's if class and box are the same but for the last digits, which tools round away.
Two boxes of a class can be so by chance. So a side of a box counts by how seldom that is: not at all within a pixel of
the image's edge; once on whole pixels or thousandths, as people and tools draw; twice between those, as a model finds
it. Sides that are the same within an image count once.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.vision.geometry import Bools, Doubles, Ints

# Five decimals and more are the same: half of the last one, in the centre and in the size. A pixel of 1280 is 80 times
# as much.
_SAME = 1e-5
# Of different pictures: three sides between the pixels. Where the sides of objects vary by a tenth of the image, two
# have these by chance once in 5e12 pairs. Of the same picture: four on whole pixels, about which a person and a model
# may agree more often.
_PROOF = 6
_PROOF_OF_SAME_PICTURE = 4
_ROUND = 2e-6  # how far six decimals may be from a whole pixel
_THOUSANDTHS = 2000  # and halves, which half of a size may be
_MOST = 4  # images with a label in common that are looked at: what more have is nothing that a model finds


class ImageBoxes(NamedTuple):
    """The labels of images as N boxes.

    Attributes:
        image: [N] the place of the image of each, from 0.
        boxes: [N, 5] class id, and the corners x1, y1, x2, y2 as shares of width and height.
    """

    image: Ints
    boxes: Doubles


class CopiedLabels(NamedTuple):
    """An image of which `labels` are those of another, the `original`: their places."""

    image: int
    original: int
    labels: int


def find_copied_labels(
    images: ImageBoxes,
    sizes: Doubles,
    originals: ImageBoxes,
    are_proof: Bools,
    show_same: Callable[[int, int], bool],
) -> Iterator[CopiedLabels]:
    """Yield each image of whose labels half or more are those of one original, too many for chance; in order.

    `sizes` are width and height of each image in pixels [M, 2], 0 if not known. `are_proof` [N] says which boxes of the
    originals nobody else may have drawn: of others the sides do not count. `show_same` says of an image and an original
    whether they are the same picture, or nearly so.
    """
    if not len(images.boxes) or not len(originals.boxes):
        return
    label, original, is_proof = _match_boxes(images.boxes, originals, are_proof)
    keys, first, pair = np.unique(_join(images.image[label], original), return_index=True, return_inverse=True)
    shared = np.bincount(pair, minlength=len(keys))
    weights = _weigh_sides(images.boxes[label], sizes[images.image[label]]) * is_proof[:, None]
    proofs = _add_weights(images.boxes[label], weights, pair)
    labels = np.bincount(images.image, minlength=len(sizes))
    rows = np.column_stack([images.image[label][first], original[first], shared, proofs])
    found = -1
    for image, other, count, proof in rows.tolist():
        enough = _PROOF_OF_SAME_PICTURE if proof < _PROOF and show_same(image, other) else _PROOF
        if image > found and 2 * count >= labels[image] and proof >= enough:
            found = image
            yield CopiedLabels(image, other, count)


def _match_boxes(boxes: Doubles, originals: ImageBoxes, are_proof: Bools) -> tuple[Ints, Ints, Bools]:
    """Return pairs, each once, of a place among the boxes and an original that has the same one, of a few such.

    Also returned is whether the box of the original is proof.
    """
    from scipy.spatial import KDTree  # takes a second, and few archives have labels of a model

    order = np.lexsort((originals.image, ~are_proof, *originals.boxes.T))
    own, image = originals.boxes[order], originals.image[order]
    starts = np.flatnonzero(np.append(True, (own[1:] != own[:-1]).any(axis=1)))
    ends = np.append(starts[1:], len(own))
    # Equal boxes make one point: among many of them each search would look at all.
    tree = KDTree(own[starts], balanced_tree=False)
    _, points = tree.query(boxes, k=_MOST, p=np.inf, distance_upper_bound=_SAME)
    label, rank = np.nonzero(points < len(starts))
    point = points[label, rank]
    places = starts[point, None] + np.arange(_MOST)
    there = places < ends[point, None]
    chosen = places[there]
    keys = _join(np.repeat(label, there.sum(axis=1)), image[chosen])
    pairs, pair = np.unique(keys, return_inverse=True)
    is_proof = np.zeros(len(pairs), np.bool_)
    np.logical_or.at(is_proof, pair, are_proof[order][chosen])
    label, original = np.divmod(pairs, image[chosen].max(initial=0) + 1)
    return label, original, is_proof


def _weigh_sides(boxes: Doubles, sizes: Doubles) -> Ints:
    """Return [N, 4] how much each side of N boxes counts in images of these sizes [N, 2] in pixels."""
    sides, pixels = boxes[:, 1:], np.tile(sizes, 2)
    pixel = np.divide(1.0, pixels, out=np.zeros(pixels.shape), where=pixels > 0)
    at_edge = np.minimum(sides, 1 - sides) <= pixel + _ROUND
    return np.where(at_edge, 0, np.where(_is_whole(sides, pixels) | _is_whole(sides, _THOUSANDTHS), 1, 2))


def _add_weights(boxes: Doubles, weights: Ints, pair: Ints) -> Ints:
    """Add up the weights [N, 4] of the sides of N boxes for each pair; the number of each box's is in `pair` [N].

    Sides of one direction at one place count once.
    """
    places = 2 * np.rint(boxes[:, 1:] / _SAME).astype(np.int64) + np.array([0, 1, 0, 1])
    of_side, weight = np.repeat(pair, 4), weights.ravel()
    order = np.argsort(-weight, kind="stable")
    of_side, weight, place = of_side[order], weight[order], (places - places.min(initial=0)).ravel()[order]
    _, first = np.unique(_join(of_side, place), return_index=True)
    total: Ints = np.bincount(of_side[first], weight[first]).astype(np.int64)
    return total


def _join(one: Ints, other: Ints) -> Ints:
    """Return one number for each pair of two, in their order; both are 0 or more."""
    joined: Ints = one * (other.max(initial=0) + 1) + other
    return joined


def _is_whole(shares: Doubles, steps: Doubles | float) -> Bools:
    parts = shares * steps
    whole: NDArray[np.bool_] = np.abs(parts - np.rint(parts)) <= _ROUND * steps
    return whole

"""The digest of a plan: equal if the same dataset would be written."""

import hashlib
import json
from collections.abc import Iterable, Iterator

from tasks.dataset.layout import LabelledImage
from tasks.merge.plan import MergePlan

# Raise it if the same plan is written in another way.
_FORM = 2


def plan_digest(plan: MergePlan) -> str:
    """Return the SHA-256 in hex of all that decides what is written: archives by their digests, ids, and samples.

    The same on every machine. The names of archives and what was left out do not count, nor do conflicts.
    """
    digest = hashlib.sha256()
    for part in _parts(plan):
        digest.update(json.dumps(part, ensure_ascii=True).encode() + b"\n")
    return digest.hexdigest()


def _parts(plan: MergePlan) -> Iterator[object]:
    yield [_FORM, plan.task, plan.classes.class_names, plan.keypoints, plan.flip_idx]
    for archive, names, ids, splits in zip(plan.digests, plan.names, plan.classes.class_ids, plan.splits, strict=True):
        yield [archive, names, ids]
        for split, samples in sorted(splits.items()):
            yield split
            yield from _samples(samples)
    for united in plan.united:
        yield ["united", united.kept, [[copy.archive, copy.image, copy.label] for copy in united.copies]]
    if plan.vocabularies:
        yield ["vocabularies", "masked"]
    if plan.pseudo_labelled.prefixes:
        yield ["pseudo-labelled", sorted(plan.pseudo_labelled.prefixes)]
    if plan.gold:
        yield ["gold", plan.gold.digest, plan.gold.names, plan.gold.class_ids]
        yield from _samples(plan.gold.samples)


def _samples(samples: Iterable[LabelledImage]) -> Iterator[object]:
    return ([sample.image, sample.label] for sample in samples)

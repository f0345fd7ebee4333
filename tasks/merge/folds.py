"""The folds of an archive: a dataset for each, to train on all other folds and to measure on this one."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tasks.dataset.layout import LabelledImage
from tasks.errors import expected_found_fix
from tasks.merge.plan import MergePlan
from tasks.merge.pseudo_labelled_file import PseudoLabelled
from tasks.merge.splitting import link_images, split_images
from tasks.merge.steps import MergeError, ValidArchive
from tasks.orchestration.step import step
from tasks.validation.dataset_check import open_dataset


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The images of a fold by their entries, and the plan of the dataset that has them as val, all others as train."""

    images: frozenset[str]
    plan: MergePlan


@step
def plan_folds(
    archive: ValidArchive,
    plan: MergePlan,
    classes: Mapping[str, Counter[str | None]],
    groups: Sequence[str],
    count: int,
    seed: int,
) -> list[Fold]:
    """Divide the images of an archive into folds of like size and classes, whatever splits it has.

    `plan` is that of the archive alone. `classes` maps each image to how many objects of each class it shows. Images
    that are the same, nearly so or of one group are in one fold; `groups` are as `group_linked_images` takes them. The
    same arguments give the same folds. Where there are fewer sets of related images, there are fewer folds. Images that
    `classes` lacks are in no fold, and no fold is trained on them.

    Raises:
        MergeError: All images are related.
    """
    with open_dataset(archive.path, task=archive.task) as (entries, _):
        stats = {name: archive.images[name] for name in classes}
        links = link_images(stats, entries.checksums(stats), entries.read, groups)
    names = [str(number) for number in range(count)]
    members = defaultdict[str, set[str]](set)
    for image, name in split_images(classes, links, dict.fromkeys(names, 1 / count), seed).items():
        members[name].add(image)
    if len(members) == 1:
        fix = "Name other groups, or judge with a version that was trained on other images."
        raise MergeError(expected_found_fix("images that make two folds", "all are alike or of one group", fix))
    samples = {sample.image: sample for own in plan.splits[0].values() for sample in own if sample.image in classes}
    return [_fold(plan, samples, frozenset(members[name])) for name in names if name in members]


def _fold(plan: MergePlan, samples: Mapping[str, LabelledImage], images: frozenset[str]) -> Fold:
    splits = {
        "train": tuple(sample for image, sample in samples.items() if image not in images),
        "val": tuple(sample for image, sample in samples.items() if image in images),
    }
    return Fold(images=images, plan=replace(plan, splits=(splits,), pseudo_labelled=PseudoLabelled()))

"""Which images of a training are mixed with each other (mosaic, mixup, cutmix, copy-paste): those of one group."""

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

# Images of a mosaic: of fewer in memory it would show the same one again and again.
_MOSAIC = 4


def group_images(dataset: Any, keys: Sequence[Hashable]) -> None:  # noqa: ANN401 - ultralytics ships no types
    """Have a `YOLODataset` mix images of equal keys only, a key an image; if it does so by others, by both."""
    if hasattr(dataset, "groups"):
        keys = list(zip(dataset.groups, keys, strict=True))
    else:
        dataset.__class__ = _grouped(type(dataset))  # its constructor is called in a function that takes no class
    dataset.groups = keys
    dataset.peers = defaultdict(list)
    for index, group in enumerate(keys):
        dataset.peers[group].append(index)


def _grouped(base: type[Any]) -> type[Any]:
    """`groups` holds the group of each image, `peers` the images of each group."""

    class GroupedImages(base):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:  # noqa: ANN401
            self._wanted = self.groups[index]
            return super().__getitem__(index)

        def get_image_and_label(self, index: int) -> Any:  # noqa: ANN401
            if self.groups[index] != self._wanted:  # a partner to mix: one that is in memory, as Ultralytics does
                loaded = [each for each in self.buffer if self.groups[each] == self._wanted]
                enough = loaded if len(loaded) >= _MOSAIC else self.peers[self._wanted]
                index = random.choice(enough)  # noqa: S311 - as Ultralytics' own choice
            return super().get_image_and_label(index)

    return GroupedImages

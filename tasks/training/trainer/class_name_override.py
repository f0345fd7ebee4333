"""The class names of the merge, by number, in place of those that Ultralytics has.

If the first name is an ImageNet synset, Ultralytics renames `n01440764` to `tench` in data sets, weights and
evaluations; two classes may then have one name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Names = tuple[str, ...]


def read_class_names(data: Path) -> Names:
    """Return the class names, by number, of a data.yaml or tree of `tasks.merge.yolo_writer.write_data_yaml`."""
    description = data / ".ndjson.yaml" if data.is_dir() else data
    names = yaml.safe_load(description.read_text(encoding="utf-8"))["names"]
    return tuple(names[number] for number in sorted(names)) if isinstance(names, Mapping) else tuple(names)


def override_class_names(model: Any, names: Sequence[str]) -> None:  # noqa: ANN401 - ultralytics ships no types
    """Have a `YOLO` object train and evaluate under these names, in any process.

    They are in the weights from the first epoch on, and in plots. Of weights with other classes Ultralytics takes over
    what they know of classes with the same names.
    """
    numbered = dict(enumerate(names))

    def begin(trainer: Any) -> None:  # noqa: ANN401
        read = trainer.get_dataset
        trainer.get_dataset = lambda: {**read(), "names": dict(numbered)}

    def measure(validator: Any) -> None:  # noqa: ANN401
        for holder in (validator, validator.metrics, validator.confusion_matrix):
            holder.names = dict(numbered)

    model.add_callback("on_pretrain_routine_start", begin)
    model.add_callback("on_val_batch_start", measure)

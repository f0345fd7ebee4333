"""Classes by number, named as the merge named them: Ultralytics is told their names and never asked for them.

It has words of its own for some: where the first name is that of an ImageNet synset, `n01440764` becomes `tench`, when
it reads a data set, when it loads weights, and wherever these are evaluated. Two classes may become one name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

Names = tuple[str, ...]


def read_class_names(data: Path) -> Names:
    """The classes of what `tasks.merge.yolo_writer.write_data_yaml` described, a data.yaml or a tree, by number."""
    described = data / ".ndjson.yaml" if data.is_dir() else data
    names = yaml.safe_load(described.read_text(encoding="utf-8"))["names"]
    return tuple(names[number] for number in sorted(names)) if isinstance(names, Mapping) else tuple(names)


def override_class_names(model: Any, names: Sequence[str]) -> None:  # noqa: ANN401 - ultralytics ships no types
    """Have a `YOLO` object train and evaluate under these names, in whichever process it does.

    They are in the weights from the first epoch on, and in what is drawn. Ultralytics also looks at them when it begins
    from weights of other classes: what these know of a class goes to the class of the same name.
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

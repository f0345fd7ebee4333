"""What a training may set of Ultralytics' own arguments: what Ultralytics takes, and nothing that breaks a promise."""

from typing import Any

import pytest
from pydantic import ValidationError
from ultralytics.cfg import check_cfg
from ultralytics.utils import DEFAULT_CFG_DICT

from tasks.parameters import TrainingOverrides
from tasks.training_arguments import IDLE_WITH_AUTO, REFUSED

ARGUMENTS: dict[str, Any] = TrainingOverrides.model_json_schema()["properties"]


def kinds(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [kind for kind in ARGUMENTS[name]["anyOf"] if kind.get("type") != "null"]
    return found


def samples(kind: dict[str, Any]) -> list[Any]:
    """The ends of a range, or all choices."""
    if "enum" in kind:
        return list(kind["enum"])
    match kind["type"]:
        case "boolean":
            return [True, False]
        case "array":
            return [[0, 3]]
    return [kind["minimum"], kind.get("maximum", 50)]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_ultralytics_takes_what_the_form_takes(name: str) -> None:
    needed = {"optimizer": "SGD"} if name in IDLE_WITH_AUTO else {}
    for value in [value for kind in kinds(name) for value in samples(kind)]:
        set_values = TrainingOverrides.model_validate({**needed, name: value}).model_dump(exclude_none=True)
        assert set_values == {name: value} | needed
        check_cfg(set_values)


OWN_LIMITS = {"freeze"}  # of which Ultralytics takes any number, and the memory that it needs


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if "maximum" in kinds(name)[0] and name not in OWN_LIMITS])
def test_the_ends_of_a_range_are_those_of_ultralytics(name: str) -> None:
    beyond = kinds(name)[0]["maximum"] + 0.5
    with pytest.raises(ValueError, match=name):
        check_cfg({name: beyond})
    with pytest.raises(ValidationError, match=name):
        TrainingOverrides(**{name: beyond})


@pytest.mark.parametrize("layers", [10**9, [3, 10**9]])
def test_layers_that_no_model_has_take_no_memory(layers: object) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        TrainingOverrides.model_validate({"freeze": layers})


def test_every_argument_of_a_training_is_taken_or_refused_with_a_reason() -> None:
    """Ultralytics' next release may have more: what they do has to be looked at."""
    assert {*REFUSED} - {"save_dir"} <= {*DEFAULT_CFG_DICT}
    assert not {*REFUSED} & {*ARGUMENTS}
    of_other_modes = {*DEFAULT_CFG_DICT} - {*REFUSED} - {*ARGUMENTS}
    assert of_other_modes == {
        *("source", "vid_stride", "stream_buffer", "visualize", "retina_masks", "embed", "show", "save_frames"),
        *("save_txt", "save_conf", "save_crop", "show_labels", "show_conf", "show_boxes", "line_width", "format"),
        *("optimize", "dynamic", "simplify", "opset", "workspace", "tracker"),
    }


@pytest.mark.parametrize("name", ["project", "epochs", "single-cls"])
def test_another_argument_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValidationError, match=REFUSED.get(name, name)):
        TrainingOverrides(**{name: 1})


@pytest.mark.parametrize("name", sorted(IDLE_WITH_AUTO))
def test_what_the_optimizer_auto_would_ignore_is_refused(name: str) -> None:
    """As Ultralytics says itself: 'ignoring lr0'."""
    for given in ({name: 0.5}, {name: 0.5, "optimizer": "auto"}):
        with pytest.raises(ValidationError, match=f"expected an optimizer for {name}, found auto"):
            TrainingOverrides.model_validate(given)
    chosen = TrainingOverrides.model_validate({"optimizer": "SGD", name: 0.5})
    assert chosen.model_dump(exclude_none=True)[name] == 0.5

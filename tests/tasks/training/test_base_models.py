"""Every model that Ultralytics knows by name is in one family, which is taken, or refused with a reason."""

from pathlib import Path

import pytest
import ultralytics
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

from tasks.training.base_models import FAMILIES, BaseModelError, ModelFamily, require_official

ARCHITECTURES = {path.name for path in (Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml")}
WEIGHTS = {name for name in GITHUB_ASSETS_NAMES if name.endswith(".pt")}


def test_each_official_model_is_in_one_family() -> None:
    """Ultralytics' next release may have more: whether they are served has to be tried."""
    owners = {name: [family.name for family in FAMILIES if family.has(name)] for name in ARCHITECTURES | WEIGHTS}
    assert {name: found for name, found in owners.items() if len(found) != 1} == {}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_taken_or_refused_with_its_reason(family: ModelFamily) -> None:
    official = {name for name in ARCHITECTURES | WEIGHTS if family.has(name)}
    assert official
    for name in official | {f"{example}.yaml" for example in family.examples}:
        if family.refusal:
            with pytest.raises(BaseModelError, match=f"trained and served here, found '{name}'") as refused:
                require_official(name)
            assert family.refusal in str(refused.value)
        else:
            require_official(name)

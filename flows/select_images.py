"""Which images are worth a person's time?"""

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.orchestration import outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import Inputs, ModelName, SelectionParams
from tasks.review.asked_images import find_asked_images
from tasks.selection import publication, session
from tasks.selection.choice import NOTHING_CHOSEN, choose
from tasks.tracking import registered_models, registry
from tasks.tracking.ancestry import read_ancestry


@flow
@outcome.fail_flow_with_message
def select_images(model_name: ModelName, inputs: Inputs, selection: SelectionParams = SelectionParams()) -> State:
    """Choose the images from which a version (None: the champion) would learn most, and say why of each.

    The next run names them `run:<flow run id>`. `inputs` are keys, prefixes that end in `/`, globs in bucket `media`,
    or `run:ID` for the images of an earlier run. A run that is tried again goes on after what was looked at.
    """
    version = registry.find_version(model_name, selection.version or registered_models.CHAMPION)
    rival = registry.find_rival(version, selection.other_version) if "disagreement" in selection.wanted else None
    known = read_ancestry(version)
    learnt = session.Learnt(
        images=known.images,
        is_complete=known.tells_images,
        archives=known.archives,
        asked=find_asked_images(model_name),
    )
    with scratch_folder("select") as folder:
        observer = _observer(version, folder)
        other = _observer(rival, folder) if rival else None
        try:
            looked_at = session.look_at_images(inputs, observer, other, learnt, selection, folder)
        except session.NothingToChooseError as nothing:
            publication.publish_nothing(nothing)
            return outcome.completed(str(nothing), NOTHING_CHOSEN)
        choice = choose(looked_at.pool, selection)
        sentence = publication.publish_selection(model_name, version.version, inputs, looked_at, choice)
    return outcome.completed(sentence, None if choice.chosen else NOTHING_CHOSEN)


def _observer(version: registry.ModelVersion, folder: Path) -> session.Observer:
    weights = registry.fetch_weights(version, folder / f"version-{version.version}")
    return session.Observer(version=version, weights=weights)

"""Which checkpoints are used, and which are kept."""

from tasks.parameters import TrainingParams
from tasks.training.checkpoints import Manifest, checkpoint_key, epochs_to_retain, fingerprint, matching_checkpoints


def manifest(epoch: int, best: int = 1, *, flow_run_id: str = "run", fingerprint: str = "this") -> Manifest:
    return Manifest(
        flow_run_id=flow_run_id,
        fingerprint=fingerprint,
        epoch=epoch,
        best=best,
        last=False,
        batch=8,
        sha256="0" * 64,
        size=1,
    )


def test_only_checkpoints_of_this_training_are_used_newest_first() -> None:
    found = [
        manifest(1),
        manifest(9, fingerprint="other"),
        manifest(12),
        manifest(8, flow_run_id="copied"),
        manifest(2),
    ]
    assert [own.epoch for own in matching_checkpoints(found, "run", "this")] == [12, 2, 1]


def test_the_newest_two_and_their_best_are_kept() -> None:
    """Should the newest be torn, the one before it needs its own best."""
    assert epochs_to_retain([manifest(5, best=2), manifest(6, best=6), manifest(2), manifest(3), manifest(4)]) == {
        2,
        5,
        6,
    }


def test_keys_are_ordered_like_epochs() -> None:
    keys = [checkpoint_key("run", epoch, "last.pt") for epoch in (2, 10, 100)]
    assert keys == sorted(keys)
    assert all(key.startswith(checkpoint_key("run")) for key in keys)


def test_what_changes_the_result_changes_the_fingerprint() -> None:
    def of(**training: object) -> str:
        return fingerprint("plan", "yolo11n.pt", TrainingParams.model_validate(training))

    assert of() == of(batch=4, device="cpu", overrides={"lr0": None})
    others = [of(overrides={"mosaic": 0.1}), of(overrides={"mosaic": 0.2}), of(overrides={"lrf": 0.1})]
    assert len({of(), *others, of(pseudo_weight=0.5)}) == 5

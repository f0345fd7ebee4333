"""What the command line shows of a run that is watched."""

import json
import subprocess

import boto3
import pytest

from infra.stack_settings import StackSettings
from infra.supervisord import bin_path
from tests.tasks.dataset.archives import good, zipped


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("archive", "outcome", "last"),
    [
        (
            "watched.zip",
            "Valid with warnings: watched.zip: valid-with-warnings",
            "finished successfully in 'Valid with",
        ),
        ("gone.zip", "Failed: Expected a dataset archive", "Flow run finished in state 'Failed'"),
    ],
)
def test_a_run_that_is_watched_tells_its_outcome(
    stack: StackSettings,  # noqa: ARG001
    archive: str,
    outcome: str,
    last: str,
) -> None:
    boto3.client("s3").put_object(Bucket="datasets", Key="watched.zip", Body=zipped(good()))
    command = [bin_path("prefect"), "deployment", "run", "validate-dataset/gpu", "--watch"]
    parameters = json.dumps({"archive": archive})
    shown = subprocess.run([*command, "--params", parameters], capture_output=True, text=True, check=False)
    assert "Traceback" not in shown.stdout
    assert "Finished in state" not in shown.stdout
    assert outcome in " ".join(shown.stdout.split())
    assert last in " ".join(shown.stdout.split())
    assert shown.returncode == (archive == "gone.zip")

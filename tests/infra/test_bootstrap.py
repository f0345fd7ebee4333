"""What `make up` asks of services that are not ours, and leaves as people have set it.

The stores here are stand-ins, for none such can be had.
"""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import bootstrap, stores
from infra.stack_settings import StackSettings
from tests.clients import pause_schedules, prefect_api


class Store:
    """An S3 that answers a conditional write with a status, or writes over what has changed."""

    def __init__(self, status: int | None) -> None:
        self.status = status

    def put_object(self, **request: Any) -> None:
        if "IfMatch" in request and self.status:
            error: Any = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": self.status}}
            raise ClientError(error, "PutObject")


def test_a_store_that_refuses_to_replace_a_changed_object_is_taken() -> None:
    stores.require_conditional_writes(Store(412))  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "found"), [(None, "written over"), (501, "PutObject")])
def test_a_store_without_conditional_writes_is_refused(status: int | None, found: str) -> None:
    with pytest.raises(RuntimeError, match=rf"found .*{found}.*If-Match"):
        stores.require_conditional_writes(Store(status))  # type: ignore[arg-type]


@pytest.mark.heavy
def test_the_watch_is_on_from_the_start_and_stays_off_when_somebody_has_paused_it(stack: StackSettings) -> None:
    def schedules() -> list[tuple[str, bool]]:
        found = api.get("/deployments/name/watch-datasets/gpu").raise_for_status().json()["schedules"]
        return [(each["schedule"]["cron"], each["active"]) for each in found]

    with prefect_api(stack) as api:
        api.delete(f"/deployments/{api.get('/deployments/name/watch-datasets/gpu').json()['id']}").raise_for_status()
        bootstrap.register_deployments()
        assert schedules() == [("*/5 * * * *", True)]
        pause_schedules(stack)
        bootstrap.register_deployments()
        assert schedules() == [("*/5 * * * *", False)]

"""`python -m infra.front_page`: serve the front page until the process is ended."""

import os
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from infra.front_page.access import is_for_anybody
from infra.front_page.application import Services, application
from infra.person_keys import take_key
from infra.request_log import RequestLog
from infra.stack_settings import StackSettings
from infra.web_server import serve
from tasks import log_lines
from tasks.orchestration.repetition import run_periodically
from tasks.serving.servers import resolve
from tasks.settings import Settings


def main() -> None:
    """Serve, with the addresses and keys of the environment."""
    log_lines.configure("studio")
    settings = StackSettings.load()
    client = None
    if "STUDIO_ACCOUNTS_URL" in os.environ:
        from infra.accounts.bootstrap import oidc_client

        client = oidc_client(settings)
    has_keys = "STUDIO_ACCOUNTS_URL" in os.environ and not settings.is_elsewhere("AWS_ENDPOINT_URL")
    targets = Settings().triton_target_list
    are_several = len(targets) > 1 or targets[0].by_dns
    services = Services(
        accounts_url=os.environ.get("STUDIO_ACCOUNTS_URL", ""),
        audit_days=settings.audit_days,
        oidc=client,
        take_store_key=partial(take_key, settings) if has_keys else lambda _: None,
        triton_url=os.environ["TRITON_HTTP_URL"],
        triton_key=os.environ["STUDIO_TRITON_KEY"],
        password=os.environ["STUDIO_PASSWORD"],
        store_url=os.environ.get("STUDIO_S3_URL") or os.environ["AWS_ENDPOINT_URL"],
        s3_events_secret=os.environ["STUDIO_S3_EVENTS_SECRET"],
        list_tritons=(lambda: [server.http for server in resolve(targets)]) if are_several else None,
        front_door_secret=os.environ.get("STUDIO_FRONT_DOOR_SECRET", ""),
        metrics_token=os.environ["STUDIO_METRICS_TOKEN"],
        stack=settings,
    )
    with _keys_that_follow(settings, services.accounts_url) if has_keys else nullcontext():
        serve(
            RequestLog(application(services), is_open=is_for_anybody),
            behind_front_door=bool(services.front_door_secret),
            host=settings.bind,
            port=settings.live_port,
            log_config=None,
            log_level="warning",
            timeout_graceful_shutdown=3,
        )


def _keys_that_follow(settings: StackSettings, accounts_url: str) -> AbstractContextManager[None]:
    """Keep the keys of accounts in the object store as the accounts are."""
    from infra.accounts.database import Database
    from infra.accounts.store_keys import EVERY_S, follow

    action = partial(follow, settings, Database(accounts_url))
    return run_periodically(action, EVERY_S, name="keys of the object store", last_s=0)


if __name__ == "__main__":
    main()

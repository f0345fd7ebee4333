"""`python -m infra.front_page`: serve the front page until the process is ended."""

import os

import uvicorn

from infra.front_page.application import Services, application
from infra.stack_settings import HOST, StackSettings
from tasks.serving.servers import resolve
from tasks.settings import Settings


def main() -> None:
    """Serve, with the addresses and keys of the environment."""
    settings = StackSettings.load()
    targets = Settings().triton_target_list
    are_several = len(targets) > 1 or targets[0].by_dns
    services = Services(
        triton_url=os.environ["TRITON_HTTP_URL"],
        triton_key=os.environ["STUDIO_TRITON_KEY"],
        password=os.environ["STUDIO_PASSWORD"],
        store_url=os.environ["AWS_ENDPOINT_URL"],
        s3_events_secret=os.environ["STUDIO_S3_EVENTS_SECRET"],
        list_tritons=(lambda: [server.http for server in resolve(targets)]) if are_several else None,
    )
    uvicorn.run(
        application(services), host=HOST, port=settings.live_port, log_level="warning", timeout_graceful_shutdown=3
    )


if __name__ == "__main__":
    main()

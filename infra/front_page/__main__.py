"""`python -m infra.front_page`: serve the front page until the process is ended."""

import os

import uvicorn

from infra.front_page.application import Services, application
from infra.stack_settings import HOST, StackSettings


def main() -> None:
    """Serve, with the addresses and keys of the environment."""
    settings = StackSettings.load()
    services = Services(
        triton_url=os.environ["TRITON_HTTP_URL"],
        triton_key=os.environ["STUDIO_TRITON_KEY"],
        password=os.environ["STUDIO_PASSWORD"],
        store_url=os.environ["AWS_ENDPOINT_URL"],
        s3_events_secret=os.environ["STUDIO_S3_EVENTS_SECRET"],
        metrics_token=os.environ["STUDIO_METRICS_TOKEN"],
    )
    uvicorn.run(
        application(services), host=HOST, port=settings.live_port, log_level="warning", timeout_graceful_shutdown=3
    )


if __name__ == "__main__":
    main()

"""Train a model on a dataset archive of yours, and serve it: upload, check, train, deploy.

    set -a; . .studio/env; set +a
    .venv/bin/python examples/train_on_your_zip.py cells.zip --model cells --epochs 50

It needs nothing of this project but its services: S3 for the archive, and Prefect's REST API for the runs.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import boto3
import httpx

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def prefect_client() -> httpx.Client:
    """Return a client of the Prefect API that the environment names."""
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=os.environ["PREFECT_API_URL"], auth=(user, password), timeout=30)


def run_flow(prefect: httpx.Client, flow: str, parameters: dict[str, Any], poll_s: float = 2.0) -> str:
    """Start a run of a flow, wait until it has ended, and return what it says at its end.

    Raises:
        SystemExit: The parameters were refused, or the run did not complete.
    """
    deployment = prefect.get(f"/deployments/name/{flow}/gpu").raise_for_status().json()
    created = prefect.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters})
    if created.status_code in {409, 422}:
        raise SystemExit(f"{flow}: {created.text}")
    run = created.raise_for_status().json()["id"]
    print(f"{flow}: run {run}", flush=True)
    while (state := prefect.get(f"/flow_runs/{run}").raise_for_status().json()["state"])["type"] not in FINAL:
        time.sleep(poll_s)
    message = f"{flow}: {state['name']}: {state['message']}"
    if state["type"] != "COMPLETED":
        raise SystemExit(message)
    return message


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, help="a zip in YOLO layout")
    parser.add_argument("--model", required=True, help="name of the model: letters, digits, `_` and `-`")
    parser.add_argument("--base-model", default="yolo11n.pt", help="where the training starts from")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--imgsz", type=int, default=640, help="image size, in pixels")
    arguments = parser.parse_args()

    key = arguments.archive.name
    boto3.client("s3").upload_file(str(arguments.archive), "datasets", key)
    training = {"epochs": arguments.epochs, "imgsz": arguments.imgsz}
    with prefect_client() as prefect:
        print(run_flow(prefect, "validate-dataset", {"archive": key}))
        parameters = {"model_name": arguments.model, "archives": [key], "base_model": arguments.base_model}
        print(run_flow(prefect, "train-model", {**parameters, "training": training}))
        print(run_flow(prefect, "deploy-model", {"model_name": arguments.model}))


if __name__ == "__main__":
    main()

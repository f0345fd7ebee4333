"""Train a model on a dataset archive of yours, and serve it: upload, check, train, deploy.

    .venv/bin/python examples/train_on_your_zip.py cells.zip --model cells --epochs 50

`--base-model yolo11n.pt` is downloaded by the first training. Without internet, put weights into bucket `base-models`
(`studio upload weights.pt --bucket base-models`), or start from nothing with `yolo11n.yaml`.
"""

import argparse
from pathlib import Path

from studio import Studio, StudioError


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, help="a zip in YOLO layout")
    parser.add_argument("--model", required=True, help="name of the model: letters, digits, `_` and `-`")
    parser.add_argument("--base-model", default="yolo11n.pt", help="where the training starts from")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--imgsz", type=int, default=640, help="image size, in pixels")
    arguments = parser.parse_args()

    studio = Studio()
    key = studio.upload(arguments.archive)
    print(studio.validate(key).wait().state.message)
    chosen = {"epochs": arguments.epochs, "imgsz": arguments.imgsz}
    print(studio.train(arguments.model, [key], base_model=arguments.base_model, **chosen).wait().state.message)
    if studio.model(arguments.model).challenger is None:
        raise SystemExit("The new version is not better than what is served: nothing was deployed.")
    print(studio.deploy(arguments.model).wait().state.message)


if __name__ == "__main__":
    try:
        main()
    except StudioError as error:
        raise SystemExit(str(error)) from None

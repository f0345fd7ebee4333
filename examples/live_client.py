"""Send a picture to a served model, and print what it shows.

.venv/bin/python examples/live_client.py photo.jpg --model cells --draw seen.jpg
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

URL = "http://127.0.0.1:8003"  # `make status` says it


def predict(url: str, model: str, picture: bytes, confidence: str | None = None) -> dict[str, Any]:
    """Return the answer about a JPEG or PNG: `boxes` in pixels as `[x1, y1, x2, y2]`, `labels`, `scores`, and more.

    `confidence` is a number from 0 to 1, or `auto`: the threshold of each class that evaluate-model has computed.
    docs/serving.md has all fields.

    Raises:
        SystemExit: The picture, the model or a parameter was refused; the message says why.
    """
    query = {} if confidence is None else {"confidence": confidence}
    answer = httpx.post(f"{url}/predict/{model}", content=picture, params=query, timeout=60)
    if answer.is_error:
        raise SystemExit(answer.json()["error"])
    result: dict[str, Any] = answer.json()
    return result


def draw(picture: bytes, answer: dict[str, Any]) -> bytes:
    """Return the picture as a JPEG, with the boxes drawn."""
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit("expected a picture that OpenCV reads, found another: leave out --draw")
    for box, label in zip(answer["boxes"], answer["labels"], strict=True):
        left, top, right, bottom = (round(number) for number in box)
        cv2.rectangle(image, (left, top), (right, bottom), (0, 0, 255), 2)
        cv2.putText(image, label, (left, max(12, top - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 255))
    return cv2.imencode(".jpg", image)[1].tobytes()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument(
        "--confidence", help="leave out what is less certain, 0 to 1, or auto for the version's own thresholds (0.25)"
    )
    parser.add_argument("--draw", type=Path, help="write the picture with its boxes into this file")
    parser.add_argument("--url", default=URL)
    arguments = parser.parse_args()

    picture = arguments.picture.read_bytes()
    answer = predict(arguments.url, arguments.model, picture, arguments.confidence)
    print(f"{answer['model']} version {answer['version']}, {answer['milliseconds']:.0f} ms")
    boxes = [str([round(number) for number in box]) for box in answer["boxes"]]
    places = boxes or [""] * len(answer["labels"])  # a classifier gives no boxes
    for label, score, box in zip(answer["labels"], answer["scores"], places, strict=True):
        print(f"{score:.2f}  {label}  {box}")
    if arguments.draw:
        arguments.draw.write_bytes(draw(picture, answer))


if __name__ == "__main__":
    main()

"""Pictures and a clip to infer on, street scenes where the data is at hand and drawn ones elsewhere; and a model."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import av
import boto3
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from botocore.config import Config

from tasks.serving import model_control
from tasks.serving.served_model import ServedModel
from tasks.tracking import registered_models, registry
from tasks.vision.geometry import Letterbox, Rgb
from tests.flows.registered import pictures
from tests.flows.steps import UNCOMPARED, deploy
from tests.tasks.export.finders import finder
from tests.tasks.training.trained import opened, trained

FRAME_RATE, SAMPLE_RATE = 25, 44_100
DRAWN = 32
UPLOADS = 8
SCENE_BIAS = -17.0  # finds 2 to 9 things in a picture


def weights_of_a_finder(folder: Path, size: int) -> Path:
    """YOLO11n that finds about as much in scenes as COCO's weights in a street, without having learned any."""
    seen = [Letterbox.fit(scene.shape[1], scene.shape[0], size).apply(scene) for scene in islice(scenes(), 4)]
    return finder(folder, "yolo11n", seen, bias=SCENE_BIAS)


def serve(name: str, weights: Path, size: int, **serving: Any) -> ServedModel:
    """Register weights as a training does, and deploy them."""
    from ultralytics.models import YOLO

    known: Any = YOLO(str(weights))
    classes = tuple(known.names.values())
    run = str(uuid4())
    model = trained(weights.parent, weights, classes=classes)
    version: int = registry.register_version.fn(name, opened(run), model, size, {"flow_run_id": run}, "")
    registry.set_alias.fn(name, registered_models.CHALLENGER, version)
    state = deploy(name, version, **UNCOMPARED, **serving)
    assert state.is_completed(), state.message
    (served,) = model_control.list_served_versions(name)
    return served


def scenes() -> Iterator[Rgb]:
    """Pictures [H,W,3] without end: drawn shapes, then the same mirrored, and so on."""
    frames = pictures(DRAWN)
    while True:
        yield from frames
        frames = [np.ascontiguousarray(frame[:, ::-1]) for frame in frames]


def jpegs(width: int, height: int, count: int) -> Iterator[bytes]:
    """JPEG files of scenes, resized."""
    for scene in islice(scenes(), count):
        sized = cv2.resize(scene, (width, height), interpolation=cv2.INTER_LINEAR)
        yield cv2.imencode(".jpg", cv2.cvtColor(sized, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def clip(path: Path, width: int, height: int, frames: int) -> Path:
    """Write scenes as H.264 with a tone of AAC beside them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for number, scene in enumerate(islice(scenes(), frames)):
            sized = np.asarray(cv2.resize(scene, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
            frame = VideoFrame.from_ndarray(sized, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
            container.mux(sound.encode(_tone(number)))
        container.mux(video.encode())
        container.mux(sound.encode())
    return path


def _tone(number: int) -> AudioFrame:
    """What is heard during one frame."""
    count = SAMPLE_RATE // FRAME_RATE
    times = np.arange(number * count, (number + 1) * count) / SAMPLE_RATE
    wave = np.asarray(0.2 * np.sin(2 * np.pi * 440 * times), np.float32)[None]
    frame = AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, number * count, Fraction(1, SAMPLE_RATE)
    return frame


def put(prefix: str, bodies: Sequence[bytes], count: int, ending: str = ".jpg") -> str:
    """Put `count` files into bucket media, the bodies in turn; return the prefix that they are below."""
    store = boto3.client("s3", config=Config(max_pool_connections=UPLOADS))

    def upload(number: int) -> None:
        key = f"{prefix}/{number:06d}{ending}"
        store.put_object(Bucket="media", Key=key, Body=bodies[number % len(bodies)])

    with ThreadPoolExecutor(UPLOADS) as pool:
        list(pool.map(upload, range(count)))
    return f"{prefix}/"

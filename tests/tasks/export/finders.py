"""Models of every task that find things without having learned any: random heads on features that differ."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from ultralytics.models import YOLO
from ultralytics.nn.tasks import yaml_model_load

from tasks.vision.geometry import Rgb

BIAS = -4.0  # finds hundreds of things in a picture


def finder(
    folder: Path, architecture: str, images: list[Rgb], classes: int = 80, bias: float = BIAS, **changed: object
) -> Path:
    """`folder/weights.pt` of an architecture (`yolo11n-seg`, `yolo26n+free` for the head without NMS).

    Scores lie on both sides of every threshold, boxes of one class overlap, angles and keypoints go everywhere. The
    `images` [S,S,3] show the layers what to expect: an untrained model answers alike for every pixel without. A lower
    `bias` of the scores finds less.
    """
    name, _, free = architecture.partition("+")
    described: dict[str, object] = yaml_model_load(f"{name}.yaml")  # type: ignore[no-untyped-call]
    described |= {"nc": classes} | changed
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(described))
    torch.manual_seed(0)
    wrapper: Any = YOLO(str(folder / f"{name}.yaml"))
    model = wrapper.model
    _calibrate(model, torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2) / np.float32(255)))
    _scatter(model.model[-1], bias)
    if free:
        model.end2end = True
        model.fuse()
    path = folder / "weights.pt"
    wrapper.save(path)
    return path


def _calibrate(model: Any, images: torch.Tensor) -> None:
    """Let every batch normalisation take its mean and variance from these images."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _scatter(head: Any, bias: float) -> None:
    """Spread what the last layers say; they alone have a bias."""
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight[0].numel()))
    for name in ("cv3", "one2one_cv3"):
        for branch in getattr(head, name, None) or []:
            branch[-1].bias.data.fill_(bias)
    for name in ("cv2", "one2one_cv2"):
        for branch in getattr(head, name, None) or []:
            _size_boxes(branch[-1])


def _size_boxes(layer: nn.Conv2d) -> None:
    """Sides of a few anchors: a distance itself, or scores of the distances 0 to 15."""
    bins = layer.out_channels // 4
    usual = torch.full((4,), 2.0) if bins == 1 else -0.5 * torch.arange(bins).repeat(4)
    layer.bias = nn.Parameter(usual)
    layer.weight.data *= 0.25 if bins == 1 else 1.0

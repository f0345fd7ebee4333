"""Weights to the served graph, and the graph in each runtime that is here: as its weights, and how fast."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.export.exporter import write_graph
from tasks.media.images import read_image
from tasks.parameters import ParityPolicy
from tasks.serving.parity.rules import compare_predictions
from tasks.serving.pre_postprocess import postprocess, preprocess
from tasks.training.job import ReferencePredictionJob, TrainerEvent
from tasks.training.process import run_job
from tasks.training.trainer.prediction_metrics import evaluate_predictions
from tasks.training.trainer.ultralytics_setup import load_model
from tasks.vision.geometry import Rgb
from tasks.vision.metrics import Scores
from tasks.vision.predictions import PredictionStore
from tests.gpu_proof.drawn import CLASSES, pictures, sample, sample_file
from tests.gpu_proof.runtimes import answers, bare_model, open_runtimes
from tests.gpu_proof.setup import Figure, Outcome, ProofError, Setup, require
from tests.tasks.export.finders import finder

USEFUL_MAP50 = 0.3
LOGITS = -6.0, 3.0  # mean and spread of those of a head of random numbers: some things in a picture
WARM_UP = 3


def export(setup: Setup) -> Outcome:
    """The best weights as the graph that Triton would get."""
    weights, told = _choose_weights(setup)
    began = time.perf_counter()
    graph = write_graph(weights, setup.folder, setup.scale.image_size)
    took = time.perf_counter() - began
    return Outcome(
        sentence=f"{graph.stat().st_size / 2**20:.1f} MiB in {took:.1f} s, of {told}",
        left={"weights": str(weights), "graph": str(graph), "trained": weights.name != "weights.pt"},
    )


def _choose_weights(setup: Setup) -> tuple[Path, str]:
    """The trained weights if they find something, else a head of random numbers, which finds things, too."""
    trained = setup.result("train").get("left", {})
    if trained.get("mAP50", 0.0) >= USEFUL_MAP50:
        return Path(trained["weights"]), "the trained weights"
    size = setup.scale.image_size
    squares = [preprocess(each, "detect", size)[0] for each in pictures(320, 240)]
    folder = setup.folder / "finder"
    folder.mkdir()
    weights = finder(folder, "yolo11n", squares, classes=len(CLASSES))
    _spread_scores(weights, squares)
    found = f"mAP50 {trained['mAP50']:.3f}" if trained else "no training"
    return weights, f"a network with a head of random numbers ({found}: too little to compare)"


def _spread_scores(weights: Path, squares: Sequence[Rgb]) -> None:
    """Move the scores of random numbers away from 1, where many are equal, and NMS may keep one box or the other."""
    network = load_model(str(weights), "detect")
    layers = [branch[-1] for branch in network.model.model[-1].cv3]
    seen: list[tuple[Any, float, float]] = []
    hooks = [
        layer.register_forward_hook(lambda layer, _, said: seen.append((layer, float(said.mean()), float(said.std()))))
        for layer in layers
    ]
    mean, spread = LOGITS
    with torch.no_grad():
        network.model.eval()(torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2) / np.float32(255)))
        for layer, found_mean, found_spread in seen:
            factor = spread / found_spread
            layer.bias.copy_(mean - factor * (found_mean - layer.bias))
            layer.weight.mul_(factor)
    for hook in hooks:
        hook.remove()
    network.save(weights)


def served(setup: Setup) -> Outcome:
    """Each runtime beside the weights by the rules of the parity gate, and its images/s beside the network alone."""
    weights, graph = _exported(setup)
    images = sample(setup, setup.folder / "sample")
    squares = [preprocess(each, "detect", setup.scale.image_size)[0] for each in pictures(640, 480)]
    limits = {figure["what"]: figure["value"] for figure in setup.result("model").get("figures", [])}
    figures, lines, refused, found = list[Figure](), list[str](), list[str](), dict[str, PredictionStore]()
    for name, open_runtime in open_runtimes(setup, weights, graph, max(setup.scale.batches)):
        began = time.perf_counter()
        try:
            runtime = open_runtime()
        except Exception as error:  # noqa: BLE001 - one runtime that is broken says nothing of the others
            refused.append(f"{name} does not start: {error}")
            continue
        if runtime is None:
            lines.append(f"{name} is not here")
            continue
        lines.append(f"{name} is {runtime.description}, ready in {time.perf_counter() - began:.1f} s")
        found[name] = PredictionStore(setup.folder / f"found-{len(found)}")
        for image in images.images:
            square, letterbox = preprocess(read_image(image.path), "detect", setup.scale.image_size)
            found[name].add(postprocess(answers(runtime, [square])[0], "detect", letterbox))
        for batch in setup.scale.batches:
            alone = model_alone(batch, f16="f16" in name)
            rate = rate_of(asked(runtime, squares, batch), batch, setup.scale.seconds)
            what = f"{name}, {batch} together"
            figures.append(Figure(what=what, value=rate, unit="images/s", against=alone, limit=limits.get(alone)))
        runtime.close()
    require(bool(found), f"expected a runtime, found none: {'; '.join([*refused, *lines])}")
    reference, scores = _predict_reference(setup, weights)
    policy = ParityPolicy.model_validate({})
    if not setup.result("export")["left"]["trained"]:  # random numbers are all near their thresholds: as weak ones
        policy = policy.model_copy(update={"min_agreement": policy.min_weak_agreement})
    for name, predictions in found.items():
        both = scores, evaluate_predictions(predictions, images)
        report = compare_predictions(reference, predictions, images, both, policy)
        require(report.compared > 0, "expected detections to compare, found none")
        seen = f"{report.compared} detections from a score of {report.confidence:.3f}"
        lines.append(f"{name}: {report.agreement:.1%} of {seen} as those of the weights")
        refused += [f"{name}: {reason}" for reason in report.reasons]
    if refused:
        raise ProofError("; ".join([*refused, *lines]), figures)
    return Outcome(sentence="; ".join(lines), figures=figures)


def _exported(setup: Setup) -> tuple[Path, Path]:
    left = setup.result("export").get("left", {})
    require(bool(left), "expected a graph, found none: the export failed")
    return Path(left["weights"]), Path(left["graph"])


def _predict_reference(setup: Setup, weights: Path) -> tuple[PredictionStore, Scores]:
    """What the weights find, by the process that the parity gate uses, and their scores."""
    folder = setup.folder / "comparison"
    folder.mkdir()
    job = ReferencePredictionJob(
        weights=weights,
        sample=sample_file(setup),
        served=(setup.folder / "found-0",),
        reference=folder / "reference",
        image_size=setup.scale.image_size,
        task="detect",
        folder=folder,
        device=setup.device,
    )
    events: list[TrainerEvent] = []
    failure = run_job(job, events.extend)
    scores = [event for event in events if isinstance(event, Scores)]
    require(len(scores) == 2, f"expected the weights to predict, found: {failure.reason if failure else 'nothing'}")
    return PredictionStore(job.reference), scores[0]


def asked(runtime: Any, squares: Sequence[Rgb], batch: int) -> Callable[[], object]:
    """Return a call that has a runtime answer so many of the squares together."""
    shown = [squares[number % len(squares)] for number in range(batch)]
    return lambda: answers(runtime, shown)


def model(setup: Setup) -> Outcome:
    """The network alone in torch, with ready tensors: what nothing else here can exceed."""
    weights, _ = _exported(setup)
    device = torch.device("cuda" if setup.is_gpu else "cpu")
    figures = []
    for dtype in (torch.float32, torch.float16) if setup.is_gpu else (torch.float32,):
        network = bare_model(weights, device, dtype)
        for order in (torch.channels_last, torch.contiguous_format):
            network = network.to(memory_format=order)
            for batch in setup.scale.batches:
                size = setup.scale.image_size
                pixels = torch.rand(batch, 3, size, size, device=device).to(dtype=dtype, memory_format=order)
                rate = rate_of(_forward(network, pixels), batch, setup.scale.seconds)
                what = model_alone(batch, f16=dtype != torch.float32)
                if order is not torch.channels_last:
                    what += ", channels first"
                figures.append(Figure(what=what, value=rate, unit="images/s"))
    best = max(figures, key=lambda figure: figure.value)
    return Outcome(sentence=f"{best.what}: {best.value:,.0f} images/s at most", figures=figures)


def model_alone(batch: int, *, f16: bool) -> str:
    """The name of a figure of `model`."""
    return f"the network alone, {'f16' if f16 else 'f32'}, {batch} together"


def _forward(network: Any, pixels: torch.Tensor) -> Callable[[], None]:
    def forward() -> None:
        with torch.inference_mode():
            network(pixels)
        if pixels.is_cuda:
            torch.cuda.synchronize()

    return forward


def rate_of(work: Callable[[], object], images: int, seconds: float) -> float:
    """Return the images/s of calls of `work`, each for so many images, over at least so many seconds and two calls."""
    for _ in range(WARM_UP):
        work()
    calls, began = 0, time.perf_counter()
    while calls < 2 or time.perf_counter() - began < seconds:
        work()
        calls += 1
    return calls * images / (time.perf_counter() - began)


def quickest(setup: Setup, squares: Sequence[Rgb]) -> tuple[str, Any, int]:
    """Return the name of the runtime that answers most images/s in the largest batch, the runtime, and that batch."""
    weights, graph = _exported(setup)
    batch = max(setup.scale.batches)
    rates: list[tuple[float, str, Any]] = []
    for name, open_runtime in open_runtimes(setup, weights, graph, batch):
        try:
            runtime = open_runtime()
        except Exception as error:  # noqa: BLE001 - `served` tells it
            print(f"{name} does not start: {error}")
            continue
        if runtime is not None:
            rates.append((rate_of(asked(runtime, squares, batch), batch, setup.scale.seconds / 4), name, runtime))
    _, name, runtime = max(rates, key=lambda found: found[0])
    for _, other, unused in rates:
        if other != name:
            unused.close()
    return name, runtime, batch

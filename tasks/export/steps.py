"""The export as a step of a flow."""

from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.export.errors import ExportError
from tasks.export.graph import write_graph


@task(cache_policy=NO_CACHE)
def export_onnx(weights: Path, folder: Path, image_size: int) -> Path:
    """Do what `write_graph` does, in a process of its own: a crash of native code ends that one.

    Raises ExportError, also where that process dies.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        try:
            return pool.submit(write_graph, weights, folder, image_size).result()
        except BrokenProcessPool as error:
            raise ExportError(
                f"the process that exports {weights.name} to ONNX died: {error}. Memory may have run out: free some, "
                "then run this again."
            ) from error

"""A model that answers the same whatever the picture, deployed in the stack of the environment: `python -m`.

A process of its own, because the clients read their addresses once. `config.pbtxt` says that it is deployed, so that a
Triton which starts anew serves it.
"""

from dataclasses import replace

from infra.environment import apply_environment, worker_environment
from infra.stack_settings import StackSettings
from tasks.parameters import ServingParams
from tasks.serving.model_repository import ConfigFile
from tasks.serving.served_model import ServedModel
from tasks.serving.triton_config import config_pbtxt, model_config
from tests.tasks.serving.graphs import constant_graph, digest_of, publish, rows, serve

SIZE = 64
MODEL = ServedModel(name="by-hand", version=1, task="detect", image_size=SIZE, class_names=("cat",), run_id="no-run")


def main() -> None:
    settings = StackSettings.load()
    apply_environment(worker_environment(settings), local_store=True)
    publish(MODEL, constant_graph(SIZE, {"detections": rows((8, 12, 40, 44, 0.9, 0))}))
    serve([MODEL], champion=1)
    config = model_config([replace(MODEL, digest=digest_of(MODEL))], ServingParams(), 1)
    ConfigFile(MODEL.name).write(config_pbtxt(config))


if __name__ == "__main__":
    main()

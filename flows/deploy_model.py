"""A registered version, exported and answering in Triton."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks import export, reporting
from tasks import serving as triton
from tasks.core.parameters import ModelName, ServingParams, Version
from tasks.core.scratch import scratch_folder
from tasks.core.served import ServedModel
from tasks.core.triton_config import config_pbtxt, model_config
from tasks.storage import objects as storage
from tasks.tracking import registry


@flow
@reporting.fails_with_reason
def deploy_model(
    model_name: ModelName, version: Version | None = None, serving: ServingParams = ServingParams()
) -> State:
    """Serve a version (the challenger, unless one is named) and make it the champion.

    The version that is served now answers until the new one does; when anything fails before, it goes on answering.
    """
    registered = registry.find_version(model_name, version or registry.CHALLENGER)
    model = ServedModel(
        name=model_name,
        version=registered.version,
        task=registered.task,
        image_size=registered.image_size,
        class_names=registered.class_names,
        run_id=registered.run_id,
    )
    if not storage.version_is_published(model_name, model.version):
        with scratch_folder("deploy") as folder:
            weights = registry.fetch_weights(registered, folder / "weights")
            graph = export.export_onnx(weights, folder / "export", model.image_size)
            storage.publish_version(model_name, model.version, graph)

    others = [served for served in triton.served_versions(model_name) if served.version != model.version]
    with triton.or_else(others, serving, model_name):
        triton.load_versions(model_name, [*others, model], serving)
        triton.wait_until_ready(model_name, model.version, serving.load_timeout_s)
        triton.smoke_test(model)

    storage.write_config(model_name, config_pbtxt(model_config([*others, model], serving)))
    registry.set_alias(model_name, registry.CHAMPION, model.version)
    kept = triton.drain(others, serving)
    storage.write_config(model_name, config_pbtxt(model_config([*kept, model], serving)))
    triton.load_versions(model_name, [*kept, model], serving)
    return reporting.completed(
        f"{model_name} version {model.version} is served and is the champion{triton.still_used(kept)}"
    )

"""Commands that start a run of a flow."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from studio.commands.options import AsJson, Settings, Wait, given, merge_settings
from studio.output import ERR, finish

Parameters = Mapping[str, object]
_WHERE_TO_REVIEW = "`studio runs --waiting` says where to review, as soon as the images are there"
Force = Annotated[bool, typer.Option(help="Delete it all the same; some reasons hold against that, too.")]
Model = Annotated[str, typer.Argument(help="Name of the model.")]
Images = Annotated[
    list[str], typer.Argument(help="Keys, prefixes that end in /, or globs in bucket media; run:ID of another run.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (
        validate,
        train,
        register,
        evaluate,
        label_errors,
        select,
        deploy,
        rollback,
        undeploy,
        infer,
        label,
        review,
        monitor,
        pipeline,
        loop,
    ):
        app.command(rich_help_panel="Runs of a flow")(command)
    app.command("import", rich_help_panel="Runs of a flow")(import_dataset)
    app.command("clean-up", rich_help_panel="Runs of a flow")(clean_up)
    for deletion in (delete_dataset, delete_version, delete_predictions):
        app.command(rich_help_panel="Deletion")(deletion)


def validate(
    archive: Annotated[str, typer.Argument(help="Key in bucket datasets, or an s3:// address.")],
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Check an archive of the object store, and keep the report."""
    _run("validate-dataset", f"validate {archive}", {"archive": archive}, settings, wait=wait, as_json=as_json)


def import_dataset(
    source: Annotated[
        str,
        typer.Argument(
            help="A zip of this disk, which goes into folder sources/ of bucket datasets, a key in that bucket, or an "
            "s3:// address."
        ),
    ],
    archive: Annotated[
        str | None, typer.Argument(help="The archive to make, such as cells.zip; under the source's name without.")
    ] = None,
    annotations: Annotated[str | None, typer.Option("--format", help="The format, if it is not recognized.")] = None,
    replace: Annotated[bool, typer.Option(help="Upload over a source of that name.")] = False,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Make an archive of one in the format of another tool, such as COCO, Pascal VOC or CVAT."""
    path = Path(source)
    if path.is_file():
        from infra.stack import load_settings
        from infra.upload import upload_once
        from studio.connection import connect

        connect()
        source = upload_once(load_settings(), path, "datasets", "sources", replace=replace)
    else:
        _require_stored(source)
    made = archive or source.rpartition("/")[2]
    parameters = {"source": source, "archive": made, "importing": given(format=annotations)}
    _run("import-dataset", f"import {source}", parameters, settings, wait=wait, as_json=as_json)


def _require_stored(source: str) -> None:
    from studio.connection import connect
    from tasks.errors import StudioError, expected_found_fix
    from tasks.storage.object_names import Bucket
    from tasks.storage.object_store import ObjectStore
    from tasks.storage.steps import object_name

    connect()
    name = object_name(source, Bucket.DATASETS)
    if not ObjectStore(name.bucket).exists(name.key):
        expected = "a zip of this disk, or one of bucket datasets"
        raise StudioError(expected_found_fix(expected, f"neither under {source!r}", "`studio datasets` lists them."))


def train(
    model: Model,
    archives: Annotated[list[str], typer.Argument(help="Keys in bucket datasets, or s3:// addresses.")],
    base_model: Annotated[str, typer.Option(help="Where the training starts from.")] = "yolo11n.pt",
    epochs: Annotated[int | None, typer.Option()] = None,
    imgsz: Annotated[int | None, typer.Option(help="Image size, in pixels.")] = None,
    batch: Annotated[float | None, typer.Option()] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Merge archives, train, and register the version."""
    parameters = {
        "model_name": model,
        "archives": archives,
        "base_model": base_model,
        "training": given(epochs=epochs, imgsz=imgsz, batch=batch),
    }
    _run("train-model", f"train {model}", parameters, settings, wait=wait, as_json=as_json)


def register(
    model: Model,
    weights: Annotated[
        str,
        typer.Argument(
            help="A .pt of this disk, which goes into bucket base-models, a key in that bucket, or official weights."
        ),
    ],
    archive: Annotated[str | None, typer.Option(help="Measure them on this archive of bucket datasets.")] = None,
    replace: Annotated[bool, typer.Option(help="Upload over other weights of that name.")] = False,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Register weights that were trained elsewhere as a version."""
    path = Path(weights)
    if path.is_file():
        from infra.stack import load_settings
        from infra.upload import upload_weights
        from studio.connection import connect
        from tasks.training.base_models import is_known

        connect()
        _require_model_name(model)
        weights = upload_weights(load_settings(), path, replace=replace)
        official = ", before the official ones: trainings from that name take them, too" if is_known(weights) else ""
        ERR.print(f"the weights are s3://base-models/{weights}{official}", markup=False)
    parameters = {"model_name": model, "weights": weights, "archive": archive}
    _run("register-model", f"register {model}", parameters, settings, wait=wait, as_json=as_json)


def _require_model_name(name: str) -> None:
    """Refuse a name as the server would, which sees it after the weights have been uploaded."""
    from pydantic import TypeAdapter, ValidationError

    from infra.refusals import sentence
    from tasks.errors import StudioError
    from tasks.parameters import ModelName

    names = TypeAdapter[str](ModelName)
    try:
        names.validate_python(name)
    except ValidationError as error:
        raise StudioError(sentence(names.json_schema()["description"], name)) from error


def evaluate(
    model: Model,
    archive: Annotated[str, typer.Argument(help="Key in bucket datasets, or an s3:// address.")],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    version: Annotated[list[int] | None, typer.Option(help="A version; the champion if none is named.")] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Measure versions on labelled images."""
    parameters = {"model_name": model, "archive": archive, "split": split, "versions": version or None}
    _run("evaluate-model", f"evaluate {model}", parameters, settings, wait=wait, as_json=as_json)


def label_errors(
    model: Model,
    archive: Annotated[str, typer.Argument(help="Key in bucket datasets, or an s3:// address.")],
    version: Annotated[int | None, typer.Option(help="A version; the champion if none is named.")] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Rank the labels of an archive that look wrong."""
    parameters = {"model_name": model, "archive": archive, "version": version}
    _run("find-label-errors", f"label-errors {model}", parameters, settings, wait=wait, as_json=as_json)


def select(
    model: Model,
    inputs: Images,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Choose the images from which the champion would learn most."""
    parameters = {"model_name": model, "inputs": inputs}
    _run("select-images", f"select for {model}", parameters, settings, wait=wait, as_json=as_json)


def deploy(
    model: Model,
    version: Annotated[int | None, typer.Option(help="A version; the challenger if none is named.")] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Serve a version, and make it the champion."""
    parameters = {"model_name": model, "version": version}
    _run("deploy-model", f"deploy {model}", parameters, settings, wait=wait, as_json=as_json)


def rollback(
    model: Model,
    version: Annotated[int | None, typer.Option(help="A version; the champion before if none is named.")] = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Make the champion before the present one the champion again."""
    parameters = {"model_name": model, "version": version}
    _run("rollback-model", f"roll back {model}", parameters, None, wait=wait, as_json=as_json)


def undeploy(model: Model, wait: Wait = True, as_json: AsJson = False) -> None:
    """Serve a model no longer; its versions stay."""
    _run("undeploy-model", f"undeploy {model}", {"model_name": model}, None, wait=wait, as_json=as_json)


def infer(
    model: Model,
    inputs: Images,
    confidence: Annotated[str | None, typer.Option(help="0 to 1, or auto: the thresholds of evaluate.")] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Detect on images and videos with the champion."""
    parameters = {"model_name": model, "inputs": inputs}
    settings = [*([f"inference.confidence={confidence}"] if confidence else []), *(settings or [])]
    _run("run-inference", f"infer with {model}", parameters, settings, wait=wait, as_json=as_json)


def label(
    model: Model,
    inputs: Images,
    archive: Annotated[str, typer.Argument(help="The archive to make, such as more.zip.")],
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Make an archive of what a version is sure of in images, and list the others for review."""
    parameters = {"model_name": model, "inputs": inputs, "archive": archive}
    _run("label-images", f"label with {model}", parameters, settings, wait=wait, as_json=as_json)


def review(
    model: Model,
    inputs: Images,
    archive: Annotated[str, typer.Argument(help="The archive to make, such as reviewed.zip.")],
    settings: Settings = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Have people keep, refuse or correct what the champion finds in images, and make an archive of it."""
    parameters = {"model_name": model, "inputs": inputs, "archive": archive}
    title = f"review with {model}"
    _run("review-images", title, parameters, settings, wait=wait, as_json=as_json, hint=_WHERE_TO_REVIEW)


def monitor(model: Model, settings: Settings = None, wait: Wait = True, as_json: AsJson = False) -> None:
    """Tell whether a version is still right on what it has seen lately, without labels."""
    _run("monitor-model", f"monitor {model}", {"model_name": model}, settings, wait=wait, as_json=as_json)


def pipeline(
    model: Model,
    archives: Annotated[list[str], typer.Argument(help="Names, patterns such as 'shapes-*.zip', or champion+.")],
    inputs: Annotated[list[str] | None, typer.Option("--infer", help="What the new champion detects on.")] = None,
    base_model: Annotated[str, typer.Option(help="Where the training starts from.")] = "yolo11n.pt",
    epochs: Annotated[int | None, typer.Option()] = None,
    imgsz: Annotated[int | None, typer.Option(help="Image size, in pixels.")] = None,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Validate archives, train, deploy if the version is better, and infer: each as a run of its own."""
    parameters = {
        "model_name": model,
        "archives": archives,
        "inputs": inputs or [],
        "base_model": base_model,
        "training": given(epochs=epochs, imgsz=imgsz),
    }
    _run("run-pipeline", f"pipeline of {model}", parameters, settings, wait=wait, as_json=as_json)


def loop(
    model: Model,
    inputs: Images,
    base_model: Annotated[
        str | None, typer.Option(help="Where the training starts from, if not as the champion's.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="In place of the champion's.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Image size in pixels, in place of the champion's.")] = None,
    settings: Settings = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Label images, have people correct some, train on all of it, and deploy if the version is better."""
    parameters = {
        "model_name": model,
        "inputs": inputs,
        **given(base_model=base_model, training=given(epochs=epochs, imgsz=imgsz) or None),
    }
    _run("close-loop", f"loop of {model}", parameters, settings, wait=wait, as_json=as_json, hint=_WHERE_TO_REVIEW)


def clean_up(
    really: Annotated[bool, typer.Option("--really", help="Remove it; without this, only report it.")] = False,
    settings: Settings = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Report what the disks need not keep, or remove it."""
    parameters = {"cleaning": {"dry_run": not really}}
    _run("clean-up", "clean up", parameters, settings, wait=wait, as_json=as_json)


def delete_dataset(
    archive: Annotated[str, typer.Argument(help="Key in bucket datasets.")],
    force: Force = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete an archive; its reports and lineage stay."""
    parameters = {"archive": archive, "force": force}
    _run("delete-dataset", f"delete {archive}", parameters, None, wait=wait, as_json=as_json)


def delete_version(
    model: Model,
    version: Annotated[int, typer.Argument(min=1, help="Its number.")],
    force: Force = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete a version that is not in use; its run in MLflow stays."""
    parameters = {"model_name": model, "version": version, "force": force}
    _run("delete-version", f"delete {model} version {version}", parameters, None, wait=wait, as_json=as_json)


def delete_predictions(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of the flow run.")],
    force: Force = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Delete the results of a run of inference."""
    parameters = {"run": run, "force": force}
    _run("delete-predictions", f"delete {run}", parameters, None, wait=wait, as_json=as_json)


def _run(
    flow: str,
    title: str,
    parameters: Parameters,
    settings: list[str] | None,
    *,
    wait: bool,
    as_json: bool,
    hint: str = "",
) -> None:
    from studio.client import Studio

    run = Studio().start(flow, **merge_settings(dict(parameters), settings))
    finish(run, title, wait=wait, as_json=as_json, hint=hint)

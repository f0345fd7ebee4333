"""A registered version, exported, compared with its weights, and answering in Triton."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.deployment import announcements, approval, gates, live_thresholds, precision, publication
from tasks.deployment.session import deployment_session
from tasks.deployment.version_sample import VersionSample
from tasks.orchestration import current_run, outcome
from tasks.orchestration.scratch import scratch_folder
from tasks.parameters import DeployableVersion, ModelName, ServingParams
from tasks.serving import kept_versions
from tasks.tracking import canaries, registry


@flow
@outcome.fail_flow_with_message
def deploy_model(
    model_name: ModelName, version: DeployableVersion | None = None, serving: ServingParams = ServingParams()
) -> State:
    """Serve a version (the challenger, unless one is named) and make it the champion.

    It is compared with its weights first, in each precision that may serve; the quickest that answers as they do is
    chosen. Then it is tried on a share of inference if `serving.canary` says so. All that is under names of its own.
    Last, a person is asked if `serving.approval` says so; the run is suspended until the answer. Clients get the
    version that is served now until the new one is the champion, whatever happens.
    """
    approval.require_askable(serving)
    with (
        approval.suspended_for_answer(),
        deployment_session("deploy", model_name) as session,
        scratch_folder("deploy") as folder,
    ):
        approved = approval.find_approved_version(session)
        earlier_choice = approved or session.find_chosen_version()
        number = version or earlier_choice
        registered = registry.find_version(model_name, number) if number else registry.find_candidate(model_name)
        session.record.version = registered.version
        canaries.end_canary(model_name)
        kept_versions.unload_leftovers(model_name)
        champions = session.read_champions()
        weights = registry.fetch_weights(registered, folder / "weights")
        published = publication.ensure_published(registered, weights, folder / "export")
        thresholds = live_thresholds.read_live_thresholds(model_name, registered.version)
        sample = VersionSample(registered, folder)
        chosen = precision.find_precision(registered, serving, approved=bool(approved))
        graph = precision.ensure_graph(registered, published.digest, chosen, sample)
        model = registered.served(graph.digest, graph.precision, thresholds)
        change = session.rollout(model, precision.serving_in(serving, chosen), champions.history)
        change.try_graph(graph.new)
        with change.loaded_candidate(published) as loaded:
            candidate = loaded
            if serving.parity and not approved:
                candidate = gates.require_parity(change, loaded, weights, sample, serving.parity, session.record)
            change.publish_graph()
            rival = champions.find_rival(model.version)
            if serving.canary and rival and not approved:
                gates.require_canary(
                    change, candidate, rival, serving.canary, session.record, session.require_ownership
                )
            if serving.approval and not approved:
                approval.request_approval(change.model, champions.served, serving.approval_timeout_h, session.record)
            session.require_ownership()
            current_run.log_step("making version %d the champion", model.version)
            change.make_champion()
        announcements.announce_deployed(session.record, change)
        change.tag_dates()
        change.unload_replaced()
        session.record.outcome = f"{model_name} version {model.version} is served and is the champion{change.away_text}"
    return outcome.completed(session.record.outcome)

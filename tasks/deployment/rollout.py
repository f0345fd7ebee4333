"""From the version that is served to another: either the new one is the champion, or all is as it was.

On several servers it is tried on the first that answers. That one changes first, alone, and then the others at once;
one that is away is left out, and put right when it is back (`tasks.serving.repair`).

The model's own name in Triton is for the champion, the version for clients that name none. Every other version that is
needed for a while is served aside (`triton_names`): a candidate, and versions that runs of inference use.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from prefect import get_run_logger

from tasks.deployment.refusals import VersionRefusedError
from tasks.errors import AwaitsAnswer, StudioError, Superseded
from tasks.orchestration.current_run import log_step
from tasks.orchestration.retries import ONCE, RetryPolicy
from tasks.orchestration.signals import defer_cancellation
from tasks.orchestration.step import SERVICE_RESTART, retried
from tasks.parameters import ServingParams
from tasks.serving import grpc_client, model_control
from tasks.serving.http_client import ServingError
from tasks.serving.kept_versions import keep_in_use, unload_aside, unload_unused, warn_on_error
from tasks.serving.model_control import Snapshot
from tasks.serving.model_repository import AsideVersions, ConfigFile, PublishedVersion, publish_precision
from tasks.serving.served_model import ServedModel
from tasks.serving.servers import (
    ServersAwayError,
    TritonServer,
    are_several,
    call_on_each,
    current_server,
    is_live,
    list_servers,
    live_servers,
    talking_to,
)
from tasks.serving.triton_config import config_pbtxt, read_serving_params
from tasks.serving.triton_names import candidate_name
from tasks.tracking import champions

_NOT_RESTORED = "what was served before could not be brought back"

MAX_LOADS = 4  # of a candidate that may be what kills Triton
R = TypeVar("R")
RequireLock = Callable[[], None]  # raises Superseded if another flow run works on the model now


@dataclass(kw_only=True)
class Rollout:
    """The change of the champion from `former` to `model`, by a flow run that holds the lock of the model.

    `history` are the champions with `model`, the last of them. `new_graphs` are graphs by precision that are tried and
    not in the repository yet, `load_seconds` what the last load in a precision took. `away` are the servers that have
    not changed because they did not answer.
    """

    model: ServedModel
    serving: ServingParams
    former: int | None
    history: Sequence[int]
    flow_run_id: str
    require_lock: RequireLock
    new_graphs: dict[str, Path] = field(default_factory=dict, init=False)
    load_seconds: dict[str, float] = field(default_factory=dict, init=False)
    is_champion: bool = field(default=False, init=False)
    away: set[TritonServer] = field(default_factory=set, init=False)
    _lower_versions: dict[TritonServer, list[ServedModel]] = field(default_factory=dict, init=False)
    _loads: Counter[str] = field(default_factory=Counter, init=False)
    _loaded_as: dict[str, str] = field(default_factory=dict, init=False)

    @contextmanager
    def loaded_candidate(self, published: PublishedVersion) -> Iterator[ServedModel]:
        """Serve the version aside in the block; yields it under its name there, which clients do not know.

        If the block fails, runs of inference that use the version may finish on it, and a new folder is removed; the
        one that a person is asked about stays.

        Raises:
            VersionRefusedError: Triton does not load the version, or it does not answer a test image.
            Superseded: Another process works on the model now, and unloads the candidate.
        """
        candidate = replace(self.model, aside=candidate_name(self.model.name))
        try:
            self._require_loadable(candidate)
            yield candidate
        except Superseded:
            raise
        except BaseException as error:
            _raise_if_superseded(self.require_lock)
            if not self.is_champion:
                keep_in_use([self.model], self.serving)
            _unload_candidate(candidate)
            if not (self.is_champion or isinstance(error, AwaitsAnswer)):
                with warn_on_error("what was written for this version stays"):
                    published.discard_if_new()
            raise
        SERVICE_RESTART.call(self.require_lock)
        _unload_candidate(candidate, SERVICE_RESTART)

    @contextmanager
    def loaded_trials(self) -> Iterator[Callable[[ServedModel], str]]:
        """Serve the candidate in more precisions until the end of the block; yields what loads one.

        It loads it in its very precision under a name of its own and returns an empty text, or else why it cannot.

        Raises:
            ServingError: Triton stays away.
            Superseded: Another process works on the model now, and unloads them.
        """
        loaded: list[ServedModel] = []

        def load(trial: ServedModel) -> str:
            loaded.append(trial)
            try:
                self.ask_candidate([trial], partial(grpc_client.smoke_test, trial))
            except ServingError as error:
                if error.transient:
                    raise
                return str(error)
            return ""

        try:
            yield load
        except Superseded:
            raise
        except BaseException:
            _raise_if_superseded(self.require_lock)
            for trial in loaded:
                _unload_candidate(trial)
            raise
        SERVICE_RESTART.call(self.require_lock)
        for trial in loaded:
            _unload_candidate(trial, SERVICE_RESTART)

    def serve_in(self, precision: str, digest: str) -> ServedModel:
        """Go on with the version in another precision, of the graph of that digest; returns the candidate in it.

        The candidate is loaded anew when it is asked next.
        """
        self.model = replace(self.model, precision=precision, digest=digest)
        self.serving = self.serving.model_copy(update={"precision": precision})
        return replace(self.model, aside=candidate_name(self.model.name))

    def try_graph(self, graph: Path | None) -> None:
        """Try the version with this graph, which is not in the repository yet; None takes the one that is."""
        if graph:
            self.new_graphs[self.model.precision] = graph

    def publish_graph(self) -> None:
        """Write the graph of the precision in which the version is to serve into its folder, if it is a new one."""
        if graph := self.new_graphs.get(self.model.precision):
            SERVICE_RESTART.call(self.require_lock)
            publish_precision(self.model.name, self.model.version, self.model.precision, graph)

    def _require_loadable(self, candidate: ServedModel) -> None:
        try:
            self.ask_candidate([candidate], lambda: grpc_client.smoke_test(candidate))
        except ServingError as error:
            if error.transient:
                raise
            raise VersionRefusedError("loading", str(error)) from error

    def ask_candidate(self, candidates: Sequence[ServedModel], question: Callable[[], R]) -> R:
        """Return what `question` returns; a Triton that dies meanwhile gets the candidates and the question again.

        `candidates` are the version in one precision or more.

        Raises:
            ServingError: The candidate does not load, Triton has died under it `MAX_LOADS` times, or stays away.
        """

        def ask() -> R:
            self.require_lock()
            with talking_to(current_server()):  # of several, the same for the whole question
                for candidate in candidates:
                    loaded_as = self._loaded_as.get(candidate.entry, candidate.precision)
                    if loaded_as != candidate.precision or not model_control.is_loaded(candidate):
                        self._load_candidate(candidate)
                return question()

        return SERVICE_RESTART.call(ask)

    def _load_candidate(self, candidate: ServedModel) -> None:
        if self._loads[candidate.entry] == MAX_LOADS:
            raise ServingError(
                f"Expected Triton to live on with {candidate.name} version {candidate.version}, found that it lost it "
                f"{MAX_LOADS} times. See Triton's log; deploy it again if Triton was stopped for another reason."
            )
        self._loads[candidate.entry] += 1
        log_step(
            "loading version %d in %s into Triton, aside of what clients get", candidate.version, candidate.precision
        )
        began = time.monotonic()
        files = AsideVersions(candidate.name)
        files.copy(candidate.version, candidate.entry)
        if graph := self.new_graphs.get(candidate.precision):
            files.add_precision(candidate.version, candidate.entry, candidate.precision, graph)
        # A precision that somebody has named may fall back to f32, as ever; one that is compared may not.
        exact = candidate.entry != candidate_name(candidate.name)
        model_control.load_aside(candidate, self.serving, exact=exact)
        self._loaded_as[candidate.entry] = candidate.precision
        self.load_seconds[candidate.precision] = time.monotonic() - began

    def make_champion(self) -> None:
        """Serve the version under the model's own name, and make it the champion.

        A client that names no version gets the champion before until Triton has loaded this one, and this one from then
        on. Whatever is raised leaves Triton and the config as they were; a service that dies is awaited.
        """
        SERVICE_RESTART.call(self._replace_champion)

    def _replace_champion(self) -> None:
        model = self.model
        before = call_on_each(live_servers(), lambda: model_control.read_snapshot.fn(model.name))
        self.away = {*list_servers()} - before.keys()
        self._lower_versions = {
            server: _versions_that_may_stay(snapshot, model, self.serving) for server, snapshot in before.items()
        }
        self._keep_leaving(before)
        with talking_to(next(iter(before))):
            config = config_pbtxt(model_control.build_config([model], self.serving, model.version))
        config_file = ConfigFile(model.name)
        timeout_s = self.serving.load_timeout_s
        changed: dict[TritonServer, Snapshot] = {}
        with defer_cancellation(), _rollback_on_error(changed, config_file, self.require_lock, timeout_s):
            self.require_lock()
            champions.announce_champion(model.name, model.version, self.flow_run_id, self.history)
            self.require_lock()  # MLflow may have been away for minutes
            first = self._change_first(before, changed)
            # With one server, only these two calls lie between the moment of Triton and that of the registry.
            config_file.write(config)
            self._change_others({server: each for server, each in before.items() if server != first}, changed)
            champions.set_champion(model.name, model.version, self.history)
            self.is_champion = True

    def _keep_leaving(self, before: Mapping[TritonServer, Snapshot]) -> None:
        """Serve aside what a server will serve no longer, for the runs of inference that use it."""
        timeouts = self.serving.model_dump(include={"load_timeout_s", "drain_timeout_s"})
        leaving: dict[int, ServedModel] = {}
        for server, snapshot in before.items():
            staying = {self.model.version, *(each.version for each in self._lower_versions[server])}
            leaving |= {each.version: each for each in snapshot.versions if each.version not in staying}
        configs = [snapshot.config for snapshot in before.values() if snapshot.config is not None]
        if configs:
            keep_in_use(leaving.values(), read_serving_params(configs[0]).model_copy(update=timeouts))

    def _change_first(
        self, before: Mapping[TritonServer, Snapshot], changed: dict[TritonServer, Snapshot]
    ) -> TritonServer:
        """Serve the version on the first server that stays; return it."""
        for server, snapshot in before.items():
            with talking_to(server):
                if self._change(snapshot, changed):
                    return server
        raise ServersAwayError(
            f"expected a Triton that stays while it loads {self.model.name} version {self.model.version}, found that "
            f"{', '.join(map(str, before))} went away: see their logs, and whether they run (`studio status`)"
        )

    def _change_others(self, before: Mapping[TritonServer, Snapshot], changed: dict[TritonServer, Snapshot]) -> None:
        if before:
            self.require_lock()
            log_step("loading version %d into %d more servers", self.model.version, len(before))
            call_on_each(before, lambda: self._change(before[current_server()], changed))

    def _change(self, before: Snapshot, changed: dict[TritonServer, Snapshot]) -> bool:
        """Serve the version on this server; returns whether that is there.

        Raises:
            ServingError: It is there, and does not load the version, or does not answer with it.
        """
        versions = [*self._lower_versions[current_server()], self.model]
        changed[current_server()] = before

        def change() -> None:
            model_control.load_versions(self.model.name, versions, self.serving, self.model.version)
            if are_several():
                self._require_served()

        return _try(change, self.away)

    def _require_served(self) -> None:
        """Raise ServingError unless this server has the version as its champion, as it was meant, and it answers."""
        found = model_control.read_snapshot.fn(self.model.name).champion_model
        if found != self.model:
            raise ServingError(
                f"expected the Triton at {current_server()} to serve {self.model}, found {found}: do all servers of "
                "TRITON_TARGETS read the same bucket, and does anything else load models into them?"
            )
        grpc_client.smoke_test.fn(self.model)

    def tag_dates(self) -> None:
        """Tag both versions with the date of the change, and the new one with its serving parameters; never raises."""
        champions.tag_champion_dates(self.model.name, self.former, self.model.version, self.serving)

    def unload_replaced(self) -> None:
        """Serve the champion alone under the model's own name; runs of inference may finish on another version.

        Other clients that name an older version have had `drain_s` to look up the champion.
        """
        with _report_incomplete_cleanup(self.model):
            lower = {each.version: each for each in chain.from_iterable(self._lower_versions.values())}
            if lower:
                time.sleep(self.serving.drain_s)
                SERVICE_RESTART.call(self.require_lock)
                keep_in_use(lower.values(), self.serving)
            SERVICE_RESTART.call(self.require_lock)
            self._serve_alone()
            unload_unused(self.model.name)

    def _serve_alone(self) -> None:
        if not are_several():
            model_control.serve_alone(self.model, self.serving)
            return
        live = live_servers()
        self.away = {*list_servers()} - {*live}
        call_on_each(live, lambda: _try(lambda: model_control.serve_alone.fn(self.model, self.serving), self.away))

    @property
    def away_text(self) -> str:
        """Which servers do not have the version yet, as the end of a sentence; empty if all do."""
        return away_text(self.away)


def away_text(away: Iterable[TritonServer]) -> str:
    """Return what is said of servers that were away, as the end of a sentence; empty if none was."""
    names = ", ".join(sorted(map(str, away)))
    return f"; Triton at {names} did not answer, and is put right when it does" if names else ""


def undeploy(model_name: str, require_lock: RequireLock) -> set[TritonServer]:
    """Stop serving a model now; runs of inference may finish on the version that they use, however long they take.

    Returns the servers that were away.
    """
    live = live_servers()
    before = call_on_each(live, lambda: retried(model_control.read_snapshot)(model_name))
    versions = {each.version: each for snapshot in before.values() for each in snapshot.versions}
    configs = [snapshot.config for snapshot in before.values() if snapshot.config is not None]
    if configs:
        keep_in_use(versions.values(), read_serving_params(configs[0]), for_good=True)
    SERVICE_RESTART.call(require_lock)
    SERVICE_RESTART.call(lambda: ConfigFile(model_name).write(None))
    away = {*list_servers()} - {*live}
    call_on_each(live, lambda: _try(lambda: _unload(model_name), away))
    unload_unused(model_name)
    return away


def _unload(model_name: str) -> None:
    # One server alone is awaited.
    (model_control.unload.fn if are_several() else model_control.unload)(model_name)


def _try(action: Callable[[], object], away: set[TritonServer]) -> bool:
    """Return whether this server is there for the action, else note it as away; one server alone has to be there."""
    try:
        action()
    except StudioError as error:
        if not are_several() or not (error.transient or not is_live(current_server())):
            raise
        get_run_logger().warning("going on without the Triton at %s: %s", current_server(), error)
        away.add(current_server())
        return False
    return True


def _unload_candidate(candidate: ServedModel, patience: RetryPolicy = ONCE) -> None:
    with warn_on_error("the candidate stays aside until the next rollout"):
        patience.call(lambda: unload_aside(candidate.name, candidate.entry))


def _versions_that_may_stay(before: Snapshot, model: ServedModel, serving: ServingParams) -> list[ServedModel]:
    """Versions that can stay under the model's own name for a while, for clients that name them.

    Only lower ones: of several, Triton gives the highest to a client that names none. And only if one config can be
    right for all; the backend onnxruntime fixes sizes in it, and keeps no engines for two versions.
    """
    if before.config is None:
        return []
    now = read_serving_params(before.config)
    fits = now.backend == serving.backend == "python" and now.max_batch_size <= serving.max_batch_size
    return [each for each in before.versions if fits and each.version < model.version]


@contextmanager
def _rollback_on_error(
    changed: Mapping[TritonServer, Snapshot], config_file: ConfigFile, require_lock: RequireLock, timeout_s: float
) -> Iterator[None]:
    # The error of the block is the one that is raised. What `changed` says when it is raised was served before.
    config = config_file.read()
    try:
        yield
    except Superseded:
        raise  # the other process works on the model now
    except BaseException:
        _raise_if_superseded(require_lock)
        get_run_logger().warning("going back to what was served before")
        with warn_on_error(_NOT_RESTORED):
            config_file.write(config)
        call_on_each(changed, lambda: _restore(changed[current_server()], timeout_s))
        raise


def _restore(before: Snapshot, timeout_s: float) -> None:
    with warn_on_error(_NOT_RESTORED):
        model_control.restore(before, timeout_s)


def _raise_if_superseded(require_lock: RequireLock) -> None:
    """Raise Superseded if another process has the lock; if the store does not say, the clean-up goes on."""
    with warn_on_error("whether another run works on this model now is not known"):
        require_lock()


@contextmanager
def _report_incomplete_cleanup(model: ServedModel) -> Iterator[None]:
    try:
        yield
    except StudioError as error:
        raise ServingError(
            f"{model.name} version {model.version} is the champion now, but what was served before could not be put "
            f"away: {error} Run deploy-model/gpu with version {model.version}: it goes on from here."
        ) from error

"""Servers that were away during a rollout, put right when they are back."""

from dataclasses import dataclass, field

from tasks.errors import StudioError
from tasks.orchestration.current_run import flow_run_id, log_step
from tasks.orchestration.flow_runs import flow_run_is_final
from tasks.serving import repair
from tasks.serving.http_client import ServingError
from tasks.serving.servers import list_servers, live_servers
from tasks.storage.locks import is_held, serving_lock


@dataclass(kw_only=True)
class Repairs:
    """What was put right: the addresses of the servers by model; what a rollout works on was left to that."""

    servers: dict[str, list[str]] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    away: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        done = "; ".join(f"{model} on {', '.join(servers)}" for model, servers in self.servers.items() if servers)
        parts = [f"put right: {done}" if done else "every Triton that answers serves what is deployed"]
        if self.left:
            parts.append(f"left to the rollout at work on it: {', '.join(self.left)}")
        if self.away:
            parts.append(f"without an answer: {', '.join(self.away)}")
        return "; ".join(parts)


def repair_all() -> Repairs:
    """Have each server that answers serve every model as it is deployed, one model after the other.

    Raises:
        ServingError: A server does not do so; the other models are right.
        StudioError: A service does not answer.
    """
    repairs = Repairs(away=sorted(map(str, {*list_servers()} - {*live_servers()})))
    run, errors = flow_run_id(), list[str]()
    for model in repair.list_models_to_repair():
        if is_held(model, lambda holder: holder == run or flow_run_is_final(holder)):
            repairs.left.append(model)
            continue
        log_step("putting the servers of %s right", model)
        try:
            with serving_lock(model, run, flow_run_is_final):
                repairs.servers[model] = repair.repair_model(model)
        except StudioError as error:
            errors.append(f"{model}: {error}")
    if errors:
        raise ServingError("; ".join([repairs.sentence, *errors]))
    return repairs

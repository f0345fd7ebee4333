"""Where the Tritons are: the text of TRITON_TARGETS."""

import re
from dataclasses import dataclass

_DNS = "dns:"
_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")


@dataclass(frozen=True)
class TritonTarget:
    """The addresses of a Triton, host:port; with `by_dns`, each address of the host is a Triton at these ports."""

    grpc: str
    http: str
    by_dns: bool = False

    def __str__(self) -> str:
        return f"{_DNS if self.by_dns else ''}{self.grpc}/{self.http}"


def split_address(address: str) -> tuple[str, int] | None:
    """Return host and port of host:port; None if it is something else."""
    found = _ADDRESS.fullmatch(address)
    return (found[1].strip("[]"), int(found[2])) if found and 0 < int(found[2]) < 65536 else None


def parse_targets(text: str) -> list[TritonTarget]:
    """Return the targets that `GRPC/HTTP,dns:GRPC/HTTP` names, in that order; none for an empty text.

    Raises:
        ValueError: One is not such a pair, or is there twice.
    """
    targets = [_target(part.strip()) for part in text.split(",")] if text.strip() else []
    for addresses in ([target.grpc for target in targets], [target.http for target in targets]):
        if len(set(addresses)) != len(addresses):
            raise ValueError(f"expected each Triton once in TRITON_TARGETS, found one twice in {text[:200]!r}")
    return targets


def _target(part: str) -> TritonTarget:
    by_dns = part.startswith(_DNS)
    grpc, _, http = part.removeprefix(_DNS).partition("/")
    found = split_address(grpc), split_address(http)
    if None in found:
        raise ValueError(
            "expected TRITON_TARGETS as GRPC/HTTP,GRPC/HTTP with addresses host:port, such as "
            f"gpu-1:8001/gpu-1:8000,gpu-2:8001/gpu-2:8000, found {part[:200]!r}"
        )
    if by_dns and len({address[0] for address in found if address}) != 1:
        raise ValueError(f"expected one host behind {_DNS!r} in TRITON_TARGETS, found two in {part[:200]!r}")
    return TritonTarget(grpc, http, by_dns)

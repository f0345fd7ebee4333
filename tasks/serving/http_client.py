"""The client of Triton's control plane, and its errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tasks.errors import StudioError
from tasks.serving.servers import are_several, current_server, is_live, setting_of
from tasks.settings import Settings

CALL_TIMEOUT_S = 15.0
KEY_HEADER = "triton-access-key"


class ServingError(StudioError):
    """Triton is down, refused a call, or does not answer as it should; the message says what to do."""


class TritonUnreachableError(ServingError):
    """Nothing listens at the address in the variable `setting`; a retry may help."""

    transient = True

    def __init__(self, setting: str, address: str, purpose: str, error: Exception) -> None:
        super().__init__(
            f"expected Triton at {address} ({setting}) to {purpose}, found no answer there ({error}). "
            "See whether it runs with `studio status`, start it with `studio up`."
        )


def access_key_header() -> dict[str, str]:
    """Return the header with the key of the load API."""
    return {KEY_HEADER: Settings().studio_triton_key.get_secret_value()}


@contextmanager
def triton_http_client(purpose: str, timeout_s: float = CALL_TIMEOUT_S) -> Iterator[Any]:
    """Yield a client for one call.

    Raises:
        ServingError: The call fails; the message says what it was for.
        TritonUnreachableError: Triton does not answer.
    """
    server = current_server()
    address = server.http
    try:
        with triton_http.InferenceServerClient(
            address, connection_timeout=CALL_TIMEOUT_S, network_timeout=timeout_s
        ) as triton:
            yield triton
    except InferenceServerException as error:
        raise ServingError(f"Triton at {address} could not {purpose}: {error_reason(error)}") from error
    except TimeoutError as error:
        if are_several() and not is_live(server):  # another one may do it
            raise TritonUnreachableError("TRITON_TARGETS", address, purpose, error) from error
        raise ServingError(f"Triton at {address} did not {purpose} within {timeout_s:g} s: see Triton's log") from error
    except (OSError, HTTPException) as error:
        raise TritonUnreachableError(setting_of("TRITON_HTTP_URL"), address, purpose, error) from error


def error_reason(error: InferenceServerException) -> str:
    """Return Triton's message on one line, and what to do if the key is wrong."""
    # Triton's Python backend adds a traceback to its message.
    reason = " ".join(str(error.message()).partition("\n\nAt:")[0].split())
    key = ". Set STUDIO_TRITON_KEY to the key that Triton was started with (`triton_key` in .studio/secrets.json)."
    return reason + key if error.status() == "403" else reason

"""Under which names Triton serves the versions of a model.

The model's own name is for its champion: Triton gives a client that names no version the newest that is loaded under
the name. Every other version that is needed for a while is loaded aside, under a name that no model of a user can have:
a candidate until it may be the champion, in several precisions while these are compared, and a version that runs of
inference hold until they let go of it.
"""

_SEPARATOR = "."  # in no model's name
_CANDIDATE = "candidate"


def candidate_name(model_name: str) -> str:
    """Return the name of the candidate, the version that may become the champion; one at a time."""
    return f"{model_name}{_SEPARATOR}{_CANDIDATE}"


def trial_name(model_name: str, precision: str) -> str:
    """Return the name of the candidate in another precision, while the precisions are compared."""
    return f"{model_name}{_SEPARATOR}{precision}"


def kept_name(model_name: str, version: int) -> str:
    """Return the name of a version that is not the champion, for the runs that hold it."""
    return f"{model_name}{_SEPARATOR}{version}"


def list_names(model_name: str, version: int) -> tuple[str, ...]:
    """Return every name under which a version may answer."""
    return model_name, kept_name(model_name, version), candidate_name(model_name)


def aside_prefix(model_name: str) -> str:
    """Return the prefix of all names aside of a model, and of no others."""
    return f"{model_name}{_SEPARATOR}"


def model_name_of(entry: str) -> str:
    """Return the model of a name."""
    return entry.partition(_SEPARATOR)[0]


def is_aside(entry: str) -> bool:
    """Return whether this is not a model's own name."""
    return _SEPARATOR in entry


def kept_version(entry: str) -> int | None:
    """Return the version that is kept under this name; None if the name is another kind."""
    number = entry.partition(_SEPARATOR)[2]
    return int(number) if number.isascii() and number.isdecimal() else None

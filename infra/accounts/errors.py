"""How what people do with accounts fails."""

from tasks.errors import StudioError


class AccountError(StudioError):
    """An account, a token or a session is not as it has to be; the message says what to do."""


class RefusedSignInError(AccountError):
    """Name and password are not those of an account that may sign in; which of the two, nobody is told."""


class TooManyAttemptsError(AccountError):
    """Too many have failed; the next may be made after `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = int(wait_s) + 1
        super().__init__(f"Expected fewer failed attempts, found too many. Try again in {self.wait_s} s.")


class DatabaseAwayError(StudioError):
    """The database of accounts does not answer, or keeps nothing more: nobody is let in, and nothing is changed."""

    transient = True

"""Defines `Refusal`, by which a request ends with a status and a sentence."""

from collections.abc import Sequence


class Refusal(Exception):
    """A request that is not carried out.

    Args:
        status: Of HTTP.
        message: What is wrong, in a sentence.
        problems: Each thing that is wrong, where there may be several.
        retry_after: Seconds after which it may go better; None where the same request never will.
        allow: The methods that are possible, of 405.
    """

    def __init__(
        self,
        status: int,
        message: str,
        problems: Sequence[str] = (),
        retry_after: int | None = None,
        allow: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.problems = tuple(problems)
        self.retry_after = retry_after
        self.allow = tuple(allow)

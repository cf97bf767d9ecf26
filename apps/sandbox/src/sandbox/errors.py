"""The errors that the control app answers with a problem, whichever module raises them."""

from typing import ClassVar


class ControlError(Exception):
    """A request of the control app that is refused with `status`; the text of the error is the problem's detail."""

    status: ClassVar[int] = 422


class UnknownPayment(ControlError):  # noqa: N818 - an answer to the client, not a failure
    """No imitated provider has a payment with this id."""

    status = 404


class NotAllowed(ControlError):  # noqa: N818 - see UnknownPayment
    """The payment's state does not allow this action."""

    status = 409

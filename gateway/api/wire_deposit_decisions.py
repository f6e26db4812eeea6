"""Wire models of what people decide about a deposit."""

from gateway.api.wire_base import Body, Wire
from gateway.api.wire_control import Approval, Reason
from gateway.api.wire_objects import Deposit


class DepositDecisionIn(Body):
    """Why; it stays with the deposit's history."""

    reason: str = Reason


class DepositDecision(Wire):
    """The deposit as it stands, and the decision that a release waits for."""

    deposit: Deposit
    approval: Approval | None

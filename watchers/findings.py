"""What the doctor may find, in words for support staff, and who must act (FEATURES N10).

Owns the codes, which are stable words of the API, and the sentences, which are not. Pure. A
sentence may name only what its finding carries in `detail`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from watchers.eta import Eta


class Severity(StrEnum):
    """How bad a finding is for the deposit."""

    OK = "ok"
    """As it should be."""
    INFO = "info"
    """Good to know; changes nothing."""
    WAIT = "wait"
    """Ends by itself."""
    ACT = "act"
    """Somebody has to do something."""
    ALARM = "alarm"
    """The operator must look now."""


class Actor(StrEnum):
    """Who has to do something."""

    NOBODY = "nobody"
    """It goes on by itself, or is over."""
    PLAYER = "player"
    """Whoever sent the coins."""
    CASINO = "casino"
    """The brand's own staff or system."""
    OPERATOR = "operator"
    """Who runs this cashier and its nodes."""


class FindingCode(StrEnum):
    """Every cause that the doctor can name."""

    CREDITED_FINAL = "credited_final"
    """Credited for good; the player may withdraw it."""
    CREDITED_PROVISIONAL = "credited_provisional"
    """Credited for play; withdrawable at its full number of confirmations."""
    IN_MEMPOOL_WAITING = "in_mempool_waiting"
    """Sent, but in no block yet."""
    FEE_LOW_WAITING = "fee_low_waiting"
    """Sent with a fee below what blocks take now."""
    CONFIRMING = "confirming"
    """In a block; more blocks must follow before it counts."""
    STEP_DUE = "step_due"
    """It has its confirmations; the credit is the next step."""
    EXPOSURE_CAP = "exposure_cap"
    """Enough play money of this player, asset or brand rests on young deposits."""
    RATE_STALE = "rate_stale"
    """No reference rate is fresh, so that the cap counts as full."""
    BELOW_MINIMUM = "below_minimum"
    """Less than the smallest deposit of its asset."""
    UNLISTED_TOKEN = "unlisted_token"
    """A token that is not accepted."""
    WRONG_NETWORK = "wrong_network"
    """Sent on another network than the address was given out for."""
    ON_HOLD = "on_hold"
    """Held by a rule; a person decides."""
    REJECTED = "rejected"
    """Refused by a person, with a reason."""
    REFUNDING = "refunding"
    """On its way back."""
    REFUNDED = "refunded"
    """Paid back."""
    ORPHANED = "orphaned"
    """Its block left the chain after it counted; locked until it is back."""
    REVERSED = "reversed"
    """It did not come back; its credit was taken back."""
    REPLACED_BY = "replaced_by"
    """The sender replaced it by another transaction."""
    DROPPED = "dropped"
    """No node has had it for a long time."""
    FAILED_TX = "failed_tx"
    """In a block, but it failed there and moved nothing."""
    NOT_FOUND_ANYWHERE = "not_found_anywhere"
    """No node of any network that it could belong to knows it."""
    PAYS_NO_ADDRESS = "pays_no_address"
    """It exists, but none of its outputs is an address of yours."""
    INSIDE_CALL_UNSEEN = "inside_call_unseen"
    """Coins moved inside a contract call cannot be read from these nodes."""
    PAID_TO_OWN_WALLET = "paid_to_own_wallet"
    """It pays a wallet of the operator, not a player's address."""
    PAID_TO_UNISSUED_ADDRESS = "paid_to_unissued_address"
    """It pays an address that no player had when it arrived."""
    PAID_TO_OTHER_SCRIPT = "paid_to_other_script"
    """It pays another address of the same key, which nobody was given."""
    PAID_TO_RETIRED_ADDRESS = "paid_to_retired_address"
    """It pays an address that was replaced by a newer one; it counts all the same."""
    UNDER_SEARCH = "under_search"
    """The token claims a transfer that the balances do not show; people look into it."""
    BEFORE_WATCH = "before_watch"
    """Its block is older than the first one that was ever read here."""
    NOT_RECORDED = "not_recorded"
    """It should stand here and does not."""
    INTERNAL = "internal"
    """Paid by a transaction of this cashier itself: a withdrawal to a player's own address."""
    CREDIT_STOPPED = "credit_stopped"
    """Credits of the network or asset are switched off."""
    NETWORK_DEGRADED = "network_degraded"
    """The nodes do not answer or disagree; nothing is credited meanwhile."""
    WATCHER_BEHIND = "watcher_behind"
    """Blocks are read more slowly than they come; its block was not reached yet."""
    WATCHER_SILENT = "watcher_silent"
    """Nobody has looked at the network for a while."""
    NODE_UNANSWERED = "node_unanswered"
    """The network was asked and gave no answer."""
    STILL_ASKING = "still_asking"
    """The network was asked and has not answered yet."""
    WEBHOOKS_DELIVERED = "webhooks_delivered"
    """The casino was told of everything."""
    WEBHOOKS_PENDING = "webhooks_pending"
    """An event is on its way to the casino."""
    WEBHOOKS_FAILING = "webhooks_failing"
    """The casino's endpoint refuses an event; it is tried again."""
    WEBHOOKS_PARKED = "webhooks_parked"
    """The casino's endpoint refused an event for days; it is tried no more."""
    WEBHOOKS_NONE = "webhooks_none"
    """Nothing was sent to any endpoint; the feed has it."""
    ADDRESS_UNKNOWN = "address_unknown"
    """Not an address of yours."""
    ADDRESS_OTHER_SCRIPT = "address_other_script"
    """Another form of an address of yours: the same key, but nobody was given this one."""
    ADDRESS_WITHOUT_DEPOSIT = "address_without_deposit"
    """An address of yours that nothing has arrived at."""
    PLAYER_WITHOUT_DEPOSIT = "player_without_deposit"
    """Nothing has arrived for this player."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a code means: `text` and `remedy` are templates over the finding's detail."""

    severity: Severity
    who: Actor
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One cause. `detail` holds short texts by name; `eta`: when it ends, where that is known."""

    code: FindingCode
    network: str | None = None
    detail: Mapping[str, str] = field(default_factory=dict)
    eta: Eta | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return ADVICE[self.code].severity

    @property
    def who(self) -> Actor:
        """Who has to act."""
        return ADVICE[self.code].who

    @property
    def text(self) -> str:
        """What it is, as a sentence."""
        return ADVICE[self.code].text.format_map(self.detail)

    @property
    def remedy(self) -> str:
        """What to do, or empty."""
        return ADVICE[self.code].remedy.format_map(self.detail)


_C, _S, _W = FindingCode, Severity, Actor
_ASK_OPERATOR = "Tell the operator; the deposit goes on by itself afterwards."

ADVICE: Mapping[FindingCode, Advice] = {
    _C.CREDITED_FINAL: Advice(
        severity=_S.OK,
        who=_W.NOBODY,
        text="{amount} is credited for good and may be withdrawn.",
    ),
    _C.CREDITED_PROVISIONAL: Advice(
        severity=_S.OK,
        who=_W.NOBODY,
        text="{amount} is credited for play. It may be withdrawn at {full} confirmations;"
        " it has {confirmations}.",
    ),
    _C.IN_MEMPOOL_WAITING: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="The payment was sent but is in no block yet.",
        remedy="Wait; if it hurries, the sender may raise its fee in the wallet.",
    ),
    _C.FEE_LOW_WAITING: Advice(
        severity=_S.WAIT,
        who=_W.PLAYER,
        text="The payment was sent with a lower fee than blocks take now ({fee}; now {needed}).",
        remedy="The sender may raise the fee in the wallet (RBF); else it waits for quieter hours.",
    ),
    _C.CONFIRMING: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="The payment has {confirmations} of {needed} confirmations.",
        remedy="Wait.",
    ),
    _C.STEP_DUE: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="The payment has its {needed} confirmations; the credit is the next step.",
        remedy="Wait a minute. If something below stops it, that has to end first.",
    ),
    _C.EXPOSURE_CAP: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="As much play money as is allowed rests on young deposits; this one waits for room.",
        remedy="Wait: others become final and make room; at {full} confirmations it needs none.",
    ),
    _C.RATE_STALE: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="There is no fresh reference rate of {asset}, so that its cap counts as full.",
        remedy="Enter a rate, or mend the source of rates.",
    ),
    _C.BELOW_MINIMUM: Advice(
        severity=_S.ACT,
        who=_W.CASINO,
        text="{amount} is less than the smallest deposit, {minimum}. It is kept, not credited.",
        remedy="Tell the player the minimum. Staff may refund it where that is worth a fee.",
    ),
    _C.UNLISTED_TOKEN: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The payment is of a token that is not accepted: {asset}.",
        remedy="Check the contract first: look-alikes are common. A real token may be recovered.",
    ),
    _C.WRONG_NETWORK: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The payment came on {network}, but belongs to {meant}.",
        remedy="It is not lost: the keys are ours. Ask the operator for a recovery.",
    ),
    _C.ON_HOLD: Advice(
        severity=_S.ACT,
        who=_W.CASINO,
        text="The payment is held: {reason}.",
        remedy="Compliance staff decide: `cage deposits release`, `cage deposits reject`.",
    ),
    _C.REJECTED: Advice(
        severity=_S.ACT,
        who=_W.CASINO,
        text="The payment was rejected by staff and is not credited.",
        remedy="Compliance staff may send it back: `cage deposits refund`.",
    ),
    _C.REFUNDING: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="The payment is on its way back, to where staff send it.",
    ),
    _C.REFUNDED: Advice(
        severity=_S.INFO,
        who=_W.NOBODY,
        text="The payment was sent back.",
    ),
    _C.ORPHANED: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="The chain has left the block of this payment; its value is locked for now.",
        remedy="Wait: mostly it is in a new block soon. Pay nothing out against it.",
    ),
    _C.REVERSED: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="The payment vanished from the chain for good{rival}; its credit was taken back.",
        remedy="The player has to pay again. Look at the account: this can be fraud.",
    ),
    _C.REPLACED_BY: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="The sender replaced the payment by another transaction: {rival}.",
        remedy="Look up that one. If it does not pay here, the player has to pay again.",
    ),
    _C.DROPPED: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="No node has had the payment for a long time; it was never in a block.",
        remedy="The player's coins never left. The sender may send again; if this one is mined"
        " after all, it counts.",
    ),
    _C.FAILED_TX: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="The transaction is in block {height}, but it failed there: no coins moved.",
        remedy="The player still has the coins and may send again, perhaps with more gas.",
    ),
    _C.NOT_FOUND_ANYWHERE: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="No node of {networks} knows this transaction.",
        remedy="Check the txid and the network in the sender's wallet; it may not be sent yet.",
    ),
    _C.PAYS_NO_ADDRESS: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="The transaction exists on {network}, but pays no address of yours.",
        remedy="Compare the receiving address in the sender's wallet with the player's.",
    ),
    _C.INSIDE_CALL_UNSEEN: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The nodes of {network} cannot show coins that moved inside a contract call.",
        remedy="Ask the operator: the reconciliation finds such a value within the hour.",
    ),
    _C.PAID_TO_OWN_WALLET: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The transaction pays a {role} wallet of the operator, not a player's address.",
        remedy="Treasury staff find it among the inflows and may assign it.",
    ),
    _C.PAID_TO_UNISSUED_ADDRESS: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The transaction pays {address}, which no player had when it arrived.",
        remedy="It is safe among the inflows; treasury staff may assign it.",
    ),
    _C.PAID_TO_OTHER_SCRIPT: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The transaction pays another form of {address}: the same key, not the same address.",
        remedy="It is not credited by itself. Once confirmed it is safe among the inflows;"
        " treasury staff may assign it. The sender's wallet must take the address as it is given.",
    ),
    _C.PAID_TO_RETIRED_ADDRESS: Advice(
        severity=_S.INFO,
        who=_W.NOBODY,
        text="The payment came to an older address of the player; such payments count for ever.",
    ),
    _C.UNDER_SEARCH: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="The token claims this transfer, but the balances contradict it ({kind}).",
        remedy="Nothing is credited before the operator has closed the search.",
    ),
    _C.BEFORE_WATCH: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="Block {height} is older than the first one that was read here ({first}).",
        remedy="Ask the operator for `cage deposits rescan {network} --from {height}`.",
    ),
    _C.NOT_RECORDED: Advice(
        severity=_S.ALARM,
        who=_W.OPERATOR,
        text="The payment in block {height} should stand here and does not.",
        remedy="Tell the operator now, with this txid.",
    ),
    _C.INTERNAL: Advice(
        severity=_S.INFO,
        who=_W.NOBODY,
        text="The payment is a withdrawal of this cashier to a player's deposit address.",
    ),
    _C.CREDIT_STOPPED: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="Credits of {scope} are stopped: {reason}.",
        remedy="Two staff start them again; " + _ASK_OPERATOR[0].lower() + _ASK_OPERATOR[1:],
    ),
    _C.NETWORK_DEGRADED: Advice(
        severity=_S.WAIT,
        who=_W.OPERATOR,
        text="The nodes of {network} do not answer or disagree: {error}.",
        remedy=_ASK_OPERATOR,
    ),
    _C.WATCHER_BEHIND: Advice(
        severity=_S.WAIT,
        who=_W.OPERATOR,
        text="Block {tip} of {network} is known, but only {height} has been read.",
        remedy="Wait while it catches up. " + _ASK_OPERATOR,
    ),
    _C.WATCHER_SILENT: Advice(
        severity=_S.ALARM,
        who=_W.OPERATOR,
        text="Nobody has looked at {network} since {since}.",
        remedy="The operator has to start its watcher. " + _ASK_OPERATOR,
    ),
    _C.NODE_UNANSWERED: Advice(
        severity=_S.WAIT,
        who=_W.OPERATOR,
        text="{network} could not be asked: {error}.",
        remedy="Ask again in a minute; tell the operator if it stays.",
    ),
    _C.STILL_ASKING: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="{network} has been asked and has not answered yet.",
        remedy="Ask again in a few seconds.",
    ),
    _C.WEBHOOKS_DELIVERED: Advice(
        severity=_S.OK,
        who=_W.NOBODY,
        text="The casino's system was told: {count} events, the last was {last}.",
    ),
    _C.WEBHOOKS_PENDING: Advice(
        severity=_S.WAIT,
        who=_W.NOBODY,
        text="{count} events are on their way to the casino's system.",
    ),
    _C.WEBHOOKS_FAILING: Advice(
        severity=_S.ACT,
        who=_W.CASINO,
        text="The casino's system refuses {count} events (last answer: {answer}).",
        remedy="Mend the webhook endpoint; events are tried again by themselves for 72 hours.",
    ),
    _C.WEBHOOKS_PARKED: Advice(
        severity=_S.ACT,
        who=_W.CASINO,
        text="The casino's system refused {count} events for days; they are tried no more.",
        remedy="Mend the webhook endpoint, then call its /recover, or read the feed.",
    ),
    _C.WEBHOOKS_NONE: Advice(
        severity=_S.INFO,
        who=_W.NOBODY,
        text="No webhook was sent for it: no endpoint takes these events. The feed has them.",
    ),
    _C.ADDRESS_UNKNOWN: Advice(
        severity=_S.ACT,
        who=_W.PLAYER,
        text="This is no address of a player of yours on {networks}.",
        remedy="Coins sent there went to somebody else. Compare it with the player's address.",
    ),
    _C.ADDRESS_OTHER_SCRIPT: Advice(
        severity=_S.ACT,
        who=_W.OPERATOR,
        text="This is another form of {address} on {network}: the same key, but nobody was given"
        " this one.",
        remedy="Payments to it are not credited by themselves; treasury staff find them among the"
        " inflows. Ask the player for the txid and look that up.",
    ),
    _C.ADDRESS_WITHOUT_DEPOSIT: Advice(
        severity=_S.INFO,
        who=_W.PLAYER,
        text="The address on {network} is watched, and nothing has arrived there.",
        remedy="Ask the player for the txid and look that up.",
    ),
    _C.PLAYER_WITHOUT_DEPOSIT: Advice(
        severity=_S.INFO,
        who=_W.PLAYER,
        text="Nothing has arrived for this player.",
        remedy="Ask the player for the txid and look that up.",
    ),
}

"""The state changes that CONTRACT 4 and 5 allow, written down from their tables by hand.

Not imported from the code under test: a row that the code's own table allows by mistake is found.
"""

_BEFORE_SIGNING = (
    "reserved screening on_hold pending_approval queued waiting_liquidity planned".split()
)
_COUNTED = "provisional final on_hold below_minimum unsupported rejected refunded".split()

_DEPOSIT = {
    # from, then every state it may reach (CONTRACT 4); "" is the first sight
    "": ["detected", "pending"],
    "detected": ["pending", "replaced", "dropped"],
    "dropped": ["pending"],
    "replaced": ["pending"],
    "pending": [
        "below_minimum", "unsupported", "on_hold", "provisional", "final", "detected",
    ],
    "provisional": ["on_hold", "final", "orphaned"],
    "final": ["orphaned"],
    "on_hold": ["final", "rejected", "orphaned"],
    "below_minimum": ["rejected", "orphaned"],
    "unsupported": ["rejected", "orphaned"],
    "rejected": ["refunding", "orphaned"],
    # back where nothing was paid, and again on its way where its block left the chain (ADR 0042)
    "refunding": ["refunded", "rejected"],
    "refunded": ["orphaned", "refunding"],
    "orphaned": [*_COUNTED, "reversed", "refunding"],
    "reversed": ["pending"],
}  # fmt: skip

_WITHDRAWAL = {
    "": ["received"],
    "received": ["rejected", "reserved", "waiting_liquidity"],
    "reserved": ["screening", "on_hold", "pending_approval", "queued"],
    "screening": ["on_hold", "pending_approval", "queued"],
    "on_hold": ["queued", "waiting_liquidity", "pending_approval"],
    "pending_approval": ["queued", "on_hold"],
    "queued": ["waiting_liquidity", "planned", "on_hold"],
    "waiting_liquidity": ["reserved", "queued", "on_hold"],
    "planned": ["signed", "on_hold", "queued"],
    # to itself: another attempt of its family counts (replacement, or the other one was mined)
    "signed": ["signed", "broadcasting", "cancelling"],
    "broadcasting": ["broadcasting", "sent", "uncertain", "cancelling"],
    "uncertain": ["uncertain", "sent", "confirming", "on_hold", "cancelling"],
    "sent": ["sent", "confirming", "on_hold", "cancelling"],
    "confirming": ["confirming", "sent", "completed", "failed"],
    "completed": ["sent"],
    "cancelling": ["cancelling", "cancelled", "completed", "on_hold", "uncertain"],
    "rejected": [],
    "cancelled": [],
    "failed": [],
    "declined": [],
    "expired": [],
}

_CONTRACT_SETUP = {
    "": ["proposed"],
    "proposed": ["approved", "declined"],
    "approved": ["planned", "failed", "declined"],
    "planned": ["approved", "signed", "failed"],
    "signed": ["sent", "signed"],
    "sent": ["done", "failed", "sent"],
    "done": ["sent"],
    "failed": ["sent"],
    "declined": [],
}

_REBALANCE = {
    "": ["proposed"],
    "proposed": ["approved", "declined", "cancelled"],
    "approved": ["planned", "unsigned_ready", "failed", "cancelled"],
    "planned": ["approved", "signed", "failed"],
    "unsigned_ready": ["approved", "signed", "cancelled"],
    "signed": ["signed", "sent", "failed"],  # to itself: another attempt of its family counts
    "sent": ["sent", "done", "failed"],
    "done": ["sent"],
    "failed": ["sent"],
    "declined": [],
    "cancelled": [],
}

_SWEEP = {
    "": ["waiting"],
    "waiting": ["waiting", "gas_planned", "planned", "unsweepable", "swept"],
    "gas_planned": ["gas_sent", "waiting"],
    "gas_sent": ["gas_ready", "waiting"],
    "gas_ready": ["gas_sent", "planned", "waiting"],
    "planned": ["signed", "waiting"],
    "signed": ["sent"],
    "sent": ["swept", "failed", "unsweepable"],
    "swept": ["sent"],
    "failed": ["waiting", "sent", "swept"],
    "unsweepable": ["waiting", "sent", "swept"],
}

_WALLET = {
    "": ["inside"],
    "inside": ["low", "gas_low", "high"],
    "low": ["inside", "high"],
    "gas_low": ["inside", "high"],
    "high": ["inside", "low", "gas_low"],
}

_CONSOLIDATION = {"": ["asked", "planned"], "asked": ["quoted", "planned", "refused"]}

_GIVEN_UP = ("declined", "expired", "cancelled")

# The event of a change, where it is not "<kind>.<state reached>" (CONTRACT 4 and 5).
SPECIAL_EVENTS = {
    "deposit:pending>detected": "deposit.orphaned",
    "deposit:on_hold>final": "deposit.released",
    "withdrawal:completed>sent": "withdrawal.reopened",
    **{f"deposit:orphaned>{state}": "deposit.restored" for state in _COUNTED},
}


def allowed() -> list[str]:
    """Every legal change as `kind:from>to`; the first row of an object has no `from`."""
    deposit = [f"deposit:{a}>{b}" for a, reached in _DEPOSIT.items() for b in reached]
    withdrawal = [f"withdrawal:{a}>{b}" for a, reached in _WITHDRAWAL.items() for b in reached]
    withdrawal += [f"withdrawal:{a}>{b}" for a in _BEFORE_SIGNING for b in _GIVEN_UP]
    setup = [f"contract_setup:{a}>{b}" for a, reached in _CONTRACT_SETUP.items() for b in reached]
    moves = [f"rebalance:{a}>{b}" for a, reached in _REBALANCE.items() for b in reached]
    sweep = [f"sweep:{a}>{b}" for a, reached in _SWEEP.items() for b in reached]
    wallet = [f"wallet:{a}>{b}" for a, reached in _WALLET.items() for b in reached]
    merges = [f"consolidation:{a}>{b}" for a, reached in _CONSOLIDATION.items() for b in reached]
    return deposit + withdrawal + setup + moves + sweep + wallet + merges

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Collects tokens from deposit addresses to one hot account, in one transaction of one gas account.
///
/// The same code is two things. Called at its own address it is the collector: it asks each deposit
/// address for an amount. Deposit addresses delegate to it (EIP-7702), and there it is what they
/// answer with: it gives tokens to `hot`, to nobody else, when the collector asks and nobody else.
/// It has no state, no owner and no upgrade: what it obeys and whom it pays stand in its code, which
/// its address is derived from (CREATE2). To everybody else a delegated address stays what it was:
/// it takes coin and calls, and does nothing.
contract Collector {
    uint256 public constant LEG_GAS = 80_000; // as a single transfer may: tokens behind proxies
    /// What a leg may cost beside its cap: cold account 2,600, its delegation 2,600, the loop, and
    /// 1/64 of what is there, which EIP-150 keeps back.
    uint256 public constant LEG_RESERVE_GAS = 12_000;

    address public immutable hot;
    address public immutable sender;
    address private immutable collector;

    error NotSender();
    error NotCollector();
    error NotHere();
    error GasTooLow();
    error NotMoved();

    constructor(address hot_, address sender_) {
        if (hot_ == address(0) || sender_ == address(0)) revert NotSender();
        hot = hot_;
        sender = sender_;
        collector = address(this);
    }

    /// Coin and foreign calls end here: a deposit address does nothing, the collector keeps nothing.
    fallback() external payable {
        if (address(this) == collector) revert NotHere();
    }

    /// Ask each leg: 20 bytes of deposit address, then 12 of amount. A leg fails alone, and what
    /// moved is told by the token's own events.
    function collect(address token, bytes32[] calldata legs) external {
        if (address(this) != collector) revert NotHere();
        if (msg.sender != sender) revert NotSender();
        bytes4 selector = this.give.selector;
        for (uint256 index = 0; index < legs.length; index++) {
            if (gasleft() < LEG_GAS + LEG_GAS / 63 + LEG_RESERVE_GAS) revert GasTooLow();
            bytes32 leg = legs[index];
            uint256 gasCap = LEG_GAS;
            assembly ("memory-safe") {
                let data := mload(0x40)
                mstore(data, selector)
                mstore(add(data, 4), token)
                mstore(add(data, 36), and(leg, 0xffffffffffffffffffffffff))
                pop(call(gasCap, shr(96, leg), 0, data, 68, 0, 0))
            }
        }
    }

    /// Give to `hot`; reverts unless the token says that it moved, or says nothing (USDT).
    function give(address token, uint256 amount) external {
        if (msg.sender != collector) revert NotCollector();
        address to = hot;
        bool ok;
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, shl(224, 0xa9059cbb)) // transfer(address,uint256)
            mstore(add(data, 4), to)
            mstore(add(data, 36), amount)
            ok := call(gas(), token, 0, data, 68, 0, 32)
            let size := returndatasize()
            ok := and(ok, or(iszero(size), and(gt(size, 31), eq(mload(0), 1))))
        }
        if (!ok) revert NotMoved();
    }
}

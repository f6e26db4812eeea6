// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Pays many receivers out of its own balance in one transaction of its owner, a hot account.
///
/// It holds what it pays, so that nobody ever approves anything. Each leg fails alone and says so by
/// its `Leg` event; a leg gets no more gas than its cap, and a transaction with too little gas for
/// the caps is reverted whole, so that no good leg fails for want of gas. A batch id is paid once.
/// There is no delegatecall, no selfdestruct, no upgrade, and no way out but to the owner.
contract BatchPayer {
    uint256 public constant NATIVE_LEG_GAS = 30_000; // what a receiver may burn of ours
    uint256 public constant TOKEN_LEG_GAS = 80_000; // as a single transfer may: tokens behind proxies
    /// What a leg may cost beside its cap: cold account 2,600, value 9,000, new account 25,000,
    /// the event 2,149, and 1/64 of the cap, which EIP-150 keeps back.
    uint256 public constant LEG_RESERVE_GAS = 42_000;

    bytes32 private constant LEG =
        keccak256("Leg(bytes32,uint256,address,uint256,bool)");

    address public owner; // shares its slot with the lock; nothing writes it after the constructor
    bool private isEntered;
    mapping(bytes32 => bool) public isPaid;

    event Batch(bytes32 indexed batchId, address indexed token, uint256 legs);
    event Leg(bytes32 indexed batchId, uint256 index, address to, uint256 amount, bool ok);
    event Withdrawn(address indexed token, uint256 amount);

    error NotOwner();
    error Entered();
    error AlreadyPaid();
    error NoLegs();
    error NoToken();
    error GasTooLow();
    error NotMoved();

    modifier onlyOwnerOnce() {
        if (msg.sender != owner) revert NotOwner();
        if (isEntered) revert Entered();
        isEntered = true;
        _;
        isEntered = false;
    }

    constructor(address owner_) {
        if (owner_ == address(0)) revert NotOwner();
        owner = owner_;
    }

    receive() external payable {}

    /// Pay each leg: 20 bytes of receiver, then 12 of amount. `token` zero is the native coin.
    function pay(bytes32 batchId, address token, bytes32[] calldata legs) external onlyOwnerOnce {
        if (isPaid[batchId]) revert AlreadyPaid();
        if (legs.length == 0) revert NoLegs();
        if (token != address(0) && token.code.length == 0) revert NoToken();
        isPaid[batchId] = true;
        emit Batch(batchId, token, legs.length);
        uint256 cap = token == address(0) ? NATIVE_LEG_GAS : TOKEN_LEG_GAS;
        for (uint256 index = 0; index < legs.length; index++) {
            if (gasleft() < cap + LEG_RESERVE_GAS) revert GasTooLow();
            address to = address(bytes20(legs[index]));
            uint256 amount = uint96(uint256(legs[index]));
            bool ok = token == address(0)
                ? _payNative(to, amount, cap)
                : _payToken(token, to, amount, cap);
            _log(batchId, index, to, amount, ok);
        }
    }

    /// Give back to the owner, and to nobody else; reverts unless it moved.
    function withdraw(address token, uint256 amount) external onlyOwnerOnce {
        if (token != address(0) && token.code.length == 0) revert NoToken();
        bool ok = token == address(0)
            ? _payNative(msg.sender, amount, gasleft())
            : _payToken(token, msg.sender, amount, gasleft());
        if (!ok) revert NotMoved();
        emit Withdrawn(token, amount);
    }

    function _payNative(address to, uint256 amount, uint256 cap) private returns (bool ok) {
        assembly ("memory-safe") {
            ok := call(cap, to, amount, 0, 0, 0, 0) // no byte of what it returns is copied
        }
    }

    /// True for a call that succeeded and returned true, or nothing at all (USDT).
    function _payToken(address token, address to, uint256 amount, uint256 cap)
        private
        returns (bool ok)
    {
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, shl(224, 0xa9059cbb)) // transfer(address,uint256)
            mstore(add(data, 4), to)
            mstore(add(data, 36), amount)
            ok := call(cap, token, 0, data, 68, 0, 32)
            let size := returndatasize()
            ok := and(ok, or(iszero(size), and(gt(size, 31), eq(mload(0), 1))))
        }
    }

    /// `emit Leg(...)` over the same memory for each leg.
    function _log(bytes32 batchId, uint256 index, address to, uint256 amount, bool ok) private {
        bytes32 topic = LEG;
        assembly ("memory-safe") {
            let data := mload(0x40)
            mstore(data, index)
            mstore(add(data, 32), to)
            mstore(add(data, 64), amount)
            mstore(add(data, 96), ok)
            log2(data, 128, topic, batchId)
        }
    }
}

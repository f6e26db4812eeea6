// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Test token that calls itself USDT and emits any `Transfer` that its caller likes (CASES D36).
/// It must never be credited, because it is not on the list. Development networks only.
contract FakeToken {
    string public constant name = "Tether USD";
    string public constant symbol = "USDT";
    uint8 public constant decimals = 6;
    mapping(address => uint256) public balanceOf;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function transfer(address to, uint256 value) external returns (bool) {
        emit Transfer(msg.sender, to, value);
        return true;
    }
}

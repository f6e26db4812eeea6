// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Test token whose `transfer` fails without reverting: it returns false and emits nothing, so
/// that the receipt has status 1 although nothing moved (CASES D35). Development networks only.
contract FalseToken {
    string public constant name = "False";
    string public constant symbol = "FALSE";
    uint8 public constant decimals = 6;
    mapping(address => uint256) public balanceOf;

    function transfer(address, uint256) external pure returns (bool) {
        return false;
    }
}

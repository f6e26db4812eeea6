// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Test receiver that refuses the native coin: a transfer to it is mined with status 0
/// (CASES D33). Development networks only.
contract Reverter {
    receive() external payable {
        revert("no, thank you");
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

interface IToken {
    function transfer(address to, uint256 value) external returns (bool);

    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// Pays others from inside a call, as routers, exchanges and wallets of several owners do.
/// Development networks only.
contract Router {
    /// The coin to many (CASES D45).
    function multisend(address payable[] calldata to, uint256[] calldata values) external payable {
        for (uint256 i = 0; i < to.length; i++) {
            (bool isPaid, ) = to[i].call{value: values[i]}("");
            require(isPaid, "not paid");
        }
    }

    /// A token that its caller allowed this contract to take (CASES D42, D43).
    function route(IToken token, address to, uint256 value) external {
        token.transferFrom(msg.sender, to, value);
    }

    /// Pays inside a call that then fails, and goes on as if nothing were (CASES D46).
    function attempt(address payable to) external payable {
        try this.payAndRevert{value: msg.value}(to) {} catch {}
    }

    function payAndRevert(address payable to) external payable {
        (bool isPaid, ) = to.call{value: msg.value}("");
        require(isPaid, "not paid");
        revert("changed my mind");
    }

    /// The coin through calls as deep as asked for.
    function deep(uint256 levels, address payable to) external payable {
        if (levels > 0) {
            this.deep{value: msg.value}(levels - 1, to);
        } else {
            (bool isPaid, ) = to.call{value: msg.value}("");
            require(isPaid, "not paid");
        }
    }
}

/// Gives all it has to an account that cannot refuse (CASES D47). Development networks only.
contract Gift {
    receive() external payable {}

    function give(address payable to) external {
        selfdestruct(to);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// For comparison only (docs/adr): collecting by counterfactual contracts instead of keys.

interface IToken {
    function balanceOf(address) external view returns (uint256);
}

/// The code behind a deposit address: gives a token to `hot` when its factory asks.
contract Forwarder {
    address private immutable hot;
    address private immutable factory;

    constructor(address hot_) {
        hot = hot_;
        factory = msg.sender;
    }

    receive() external payable {}

    function give(address token, uint256 amount) external {
        require(msg.sender == factory);
        (bool ok, ) = token.call(abi.encodeWithSelector(0xa9059cbb, hot, amount));
        require(ok);
    }
}

/// Makes an address's contract when its tokens are first collected: an EIP-1167 proxy.
contract ForwarderFactory {
    address public immutable forwarder;

    constructor(address hot) {
        forwarder = address(new Forwarder(hot));
    }

    function addressOf(bytes32 salt) external view returns (address) {
        bytes32 hash = keccak256(_code());
        return address(uint160(uint256(keccak256(
            abi.encodePacked(bytes1(0xff), address(this), salt, hash)
        ))));
    }

    function collect(address token, uint256[] calldata amounts, bytes32[] calldata salts) external {
        bytes memory code = _code();
        bytes32 hash = keccak256(code);
        for (uint256 i = 0; i < salts.length; i++) {
            bytes32 salt = salts[i];
            address at = address(uint160(uint256(keccak256(
                abi.encodePacked(bytes1(0xff), address(this), salt, hash)
            ))));
            if (at.code.length == 0) {
                assembly {
                    at := create2(0, add(code, 32), mload(code), salt)
                }
            }
            Forwarder(payable(at)).give(token, amounts[i]);
        }
    }

    function _code() private view returns (bytes memory) {
        return abi.encodePacked(
            hex"3d602d80600a3d3981f3363d3d373d3d3d363d73", forwarder, hex"5af43d82803e903d91602b57fd5bf3"
        );
    }
}

/// A contract that gives what its address holds and is gone in the same transaction (EIP-6780).
contract Passing {
    constructor(address token, address hot) {
        uint256 amount = IToken(token).balanceOf(address(this));
        (bool ok, ) = token.call(abi.encodeWithSelector(0xa9059cbb, hot, amount));
        require(ok);
        selfdestruct(payable(hot));
    }
}

/// Makes a `Passing` for each address, for ever the same one per salt, and of one token.
contract PassingFactory {
    address private immutable hot;

    constructor(address hot_) {
        hot = hot_;
    }

    function addressOf(address token, bytes32 salt) external view returns (address) {
        bytes32 hash = keccak256(abi.encodePacked(type(Passing).creationCode, abi.encode(token, hot)));
        return address(uint160(uint256(keccak256(
            abi.encodePacked(bytes1(0xff), address(this), salt, hash)
        ))));
    }

    function collect(address token, bytes32[] calldata salts) external {
        for (uint256 i = 0; i < salts.length; i++) {
            new Passing{salt: salts[i]}(token, hot);
        }
    }
}

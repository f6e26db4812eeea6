// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Receivers and owners that try to harm a `BatchPayer`. Development networks only.

interface IBatchPayer {
    function pay(bytes32 batchId, address token, bytes32[] calldata legs) external;
    function withdraw(address token, uint256 amount) external;
}

/// Burns whatever gas it is given (CASES P30).
contract GasBurner {
    uint256 private burned;

    receive() external payable {
        while (true) {
            burned++;
        }
    }
}

/// Succeeds and returns more than any copy of it could pay for.
contract ReturnBomb {
    receive() external payable {
        assembly {
            return(0, 20000)
        }
    }
}

/// A contract wallet: takes the coin and writes it down.
contract Wallet {
    uint256 public received;

    receive() external payable {
        received += msg.value;
    }
}

/// Calls the payer back when it is paid, as a stranger.
contract Caller {
    receive() external payable {
        IBatchPayer(msg.sender).withdraw(address(0), 1);
    }
}

/// Owns a payer and calls it back when it is paid: the worst that a delegated owner could do.
contract GreedyOwner {
    IBatchPayer public payer;
    bool public wasLetIn;

    function own(IBatchPayer payer_) external {
        payer = payer_;
    }

    function pay(bytes32 batchId, address token, bytes32[] calldata legs) external {
        payer.pay(batchId, token, legs);
    }

    receive() external payable {
        bytes32[] memory legs = new bytes32[](1);
        legs[0] = bytes32(uint256(1));
        try payer.pay(bytes32(uint256(7)), address(0), legs) {
            wasLetIn = true;
        } catch {}
        try payer.withdraw(address(0), 1) {
            wasLetIn = true;
        } catch {}
    }
}

/// `transfer` gives back what it is told, and refuses a blocked receiver as USDC does.
contract OddToken {
    uint8 public constant decimals = 6;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => bool) public isBlocked;
    bytes private answer;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function setAnswer(bytes calldata value) external {
        answer = value;
    }

    function setBlocked(address account, bool value) external {
        isBlocked[account] = value;
    }

    function transfer(address to, uint256 value) external {
        require(!isBlocked[to], "receiver is blocked");
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
        emit Transfer(msg.sender, to, value);
        bytes memory data = answer;
        assembly {
            return(add(data, 32), mload(data))
        }
    }
}

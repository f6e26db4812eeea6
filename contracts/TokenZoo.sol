// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Tokens that do what tokens of main networks have done, each in its smallest form. Development
/// networks only; whoever calls may do anything.

/// A plain ERC-20 with 6 decimals that anyone may mint: the base of the animals below.
contract PlainToken {
    uint8 public decimals = 6;
    uint256 public totalSupply;
    mapping(address => uint256) internal held;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);

    function balanceOf(address account) public view virtual returns (uint256) {
        return held[account];
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        held[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external returns (bool) {
        allowance[msg.sender][spender] = value;
        return true;
    }

    function transfer(address to, uint256 value) external returns (bool) {
        _move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external returns (bool) {
        allowance[from][msg.sender] -= value;
        _move(from, to, value);
        return true;
    }

    function _move(address from, address to, uint256 value) internal virtual {
        held[from] -= value;
        held[to] += value;
        emit Transfer(from, to, value);
    }
}

/// Keeps one percent of each transfer, and its log does not say so (CASES D39).
contract FeeToken is PlainToken {
    function _move(address from, address to, uint256 value) internal override {
        held[from] -= value;
        held[to] += value - value / 100;
        totalSupply -= value / 100;
        emit Transfer(from, to, value);
    }
}

/// Balances change for everyone at once without a log (CASES D40).
contract RebasingToken is PlainToken {
    uint256 public percent = 100;

    function rebase(uint256 newPercent) external {
        percent = newPercent;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return (held[account] * percent) / 100;
    }
}

/// The issuer takes funds away, or stops everything (CASES D56, D57).
contract IssuerToken is PlainToken {
    bool public paused;

    event DestroyedBlackFunds(address account, uint256 value);

    function setPaused(bool value) external {
        paused = value;
    }

    function destroyBlackFunds(address account) external {
        uint256 value = held[account];
        held[account] = 0;
        totalSupply -= value;
        emit DestroyedBlackFunds(account, value);
    }

    function _move(address from, address to, uint256 value) internal override {
        require(!paused, "paused");
        super._move(from, to, value);
    }
}

/// Says what its caller likes: logs without a movement, movements without a log, other decimals,
/// logs that are no ERC-20 `Transfer` (CASES D36, D38, D41, D53, D54).
contract LyingToken is PlainToken {
    function setDecimals(uint8 value) external {
        decimals = value;
    }

    function claim(address from, address to, uint256 value) external {
        emit Transfer(from, to, value);
    }

    function slip(address to, uint256 value) external {
        totalSupply += value;
        held[to] += value;
    }

    /// Pays as many tokens as the number of its block: mined again, the same tx pays another sum,
    /// and at an odd height it pays nothing at all when `isFickle` is set.
    function drift(address to, bool isFickle) external {
        if (isFickle && block.number % 2 == 1) return;
        uint256 value = block.number * 10 ** 6;
        totalSupply += value;
        held[to] += value;
        emit Transfer(address(0), to, value);
    }

    function nft(address from, address to, uint256 id) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            log4(0, 0, topic, from, to, id)
        }
    }

    function dirty(address from, address to, uint256 value) external {
        bytes32 topic = keccak256("Transfer(address,address,uint256)");
        assembly {
            mstore(0, value)
            log3(0, 32, topic, or(from, shl(160, 1)), or(to, shl(160, 1)))
        }
    }
}

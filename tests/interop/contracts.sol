// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

// Both contracts are placed with anvil_setCode, which runs no constructor: everything that is not
// storage starting at zero must be a constant or be computed.

/// A token that a facilitator cannot tell from USDC on base-sepolia: EIP-20 balances and EIP-3009
/// transfers signed by an externally owned account. Anyone may mint.
contract TestUsdc {
    string public constant name = "USDC";
    string public constant symbol = "USDC";
    string public constant version = "2";
    uint8 public constant decimals = 6;

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant TRANSFER_TYPEHASH = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    // EIP-2: a signature with the upper value of s would be a second signature for the same transfer.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(bytes32 => bool)) public authorizationState;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    struct Authorization {
        address from;
        address to;
        uint256 value;
        uint256 validAfter;
        uint256 validBefore;
        bytes32 nonce;
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external {
        _transfer(Authorization(from, to, value, validAfter, validBefore, nonce), v, r, s);
    }

    function transferWithAuthorization(
        address from,
        address to,
        uint256 value,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 nonce,
        bytes calldata signature
    ) external {
        require(signature.length == 65, "invalid signature length");
        _transfer(
            Authorization(from, to, value, validAfter, validBefore, nonce),
            uint8(signature[64]),
            bytes32(signature[0:32]),
            bytes32(signature[32:64])
        );
    }

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256(bytes(name)), keccak256(bytes(version)), block.chainid, address(this)
            )
        );
    }

    function _transfer(Authorization memory auth, uint8 v, bytes32 r, bytes32 s) private {
        require(block.timestamp > auth.validAfter, "authorization is not yet valid");
        require(block.timestamp < auth.validBefore, "authorization is expired");
        require(!authorizationState[auth.from][auth.nonce], "authorization is used");
        _requireSignature(auth, v, r, s);
        require(balanceOf[auth.from] >= auth.value, "transfer amount exceeds balance");

        authorizationState[auth.from][auth.nonce] = true;
        balanceOf[auth.from] -= auth.value;
        balanceOf[auth.to] += auth.value;
        emit AuthorizationUsed(auth.from, auth.nonce);
        emit Transfer(auth.from, auth.to, auth.value);
    }

    function _requireSignature(Authorization memory auth, uint8 v, bytes32 r, bytes32 s) private view {
        bytes32 structHash = keccak256(
            abi.encode(
                TRANSFER_TYPEHASH, auth.from, auth.to, auth.value, auth.validAfter, auth.validBefore, auth.nonce
            )
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", DOMAIN_SEPARATOR(), structHash));
        require(uint256(s) <= HALF_ORDER, "invalid signature: s");
        address signer = ecrecover(digest, v, r, s);
        require(signer != address(0) && signer == auth.from, "invalid signature");
    }
}

/// The one function of Multicall3 that the facilitator calls, to learn why a transfer would fail.
contract Multicall {
    struct Call {
        address target;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    function tryAggregate(bool requireSuccess, Call[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (results[i].success, results[i].returnData) = calls[i].target.call(calls[i].callData);
            require(!requireSuccess || results[i].success, "call failed");
        }
    }
}

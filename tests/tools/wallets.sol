// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

// What settlement on chain meets besides the usual: wallets that do not exist yet, the contract that
// deploys them with a payment, and a token that says nothing.

/// A wallet with an owner. It takes the owner's signature behind one byte, as modular wallets name the
/// key that signed, so nobody takes it for the signature of an ordinary account.
contract ModularWallet {
    address public immutable owner;

    constructor(address wanted) {
        owner = wanted;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        bool valid = signature.length == 66 && signature[0] == 0x07
            && ecrecover(digest, uint8(signature[65]), bytes32(signature[1:33]), bytes32(signature[33:65])) == owner;
        return valid ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}

/// Deploys wallets at addresses that are known before.
contract WalletFactory {
    function deploy(address owner) external returns (address) {
        return address(new ModularWallet{salt: 0}(owner));
    }

    function addressOf(address owner) external view returns (address) {
        bytes32 code = keccak256(abi.encodePacked(type(ModularWallet).creationCode, abi.encode(owner)));
        return address(uint160(uint256(keccak256(abi.encodePacked(hex"ff", address(this), uint256(0), code)))));
    }
}

/// The one function of Multicall3 that deploys a wallet and pays with it.
contract Multicall3 {
    struct Call {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct Result {
        bool success;
        bytes returnData;
    }

    function aggregate3(Call[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i = 0; i < calls.length; i++) {
            (results[i].success, results[i].returnData) = calls[i].target.call(calls[i].callData);
            require(results[i].success || calls[i].allowFailure, "call failed");
        }
    }
}

/// A token whose transfers succeed and move nothing, as some do for a nonce that was used.
contract SilentToken {
    string public constant name = "USDC";
    string public constant version = "2";

    function authorizationState(address, bytes32) external pure returns (bool) {
        return false;
    }

    function transferWithAuthorization(
        address, address, uint256, uint256, uint256, bytes32, uint8, bytes32, bytes32
    ) external {}
}

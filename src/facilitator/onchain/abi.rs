//! What is called and read of contracts. The interfaces are those of EIP-20, EIP-3009 (with the form
//! for contract wallets that USDC has since version 2.2), EIP-1271, ERC-6492, Permit2, the x402 proxy
//! (`scheme_exact_evm.md`, reference implementation) and Multicall3.

use alloy_primitives::{Address, B256, address, b256};
use alloy_sol_types::sol;

/// Multicall3, at this address on every chain that has it.
pub(super) const MULTICALL: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// How a signature ends that also says how its wallet is deployed (ERC-6492).
pub(super) const WRAPPED: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");
/// What `isValidSignature` answers for a valid one (EIP-1271).
pub(super) const VALID: [u8; 4] = [0x16, 0x26, 0xba, 0x7e];

sol! {
    interface Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

        function name() external view returns (string);
        function version() external view returns (string);
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    }

    /// The form of EIP-3009, for ordinary accounts.
    interface BySigner {
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            uint8 v, bytes32 r, bytes32 s
        ) external;
    }

    /// The form that also takes signatures of contract wallets.
    interface ByWallet {
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            bytes signature
        ) external;
    }

    interface Wallet {
        function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
    }

    /// What stands before the suffix of a wrapped signature.
    struct Wrapped {
        address factory;
        bytes deployment;
        bytes signature;
    }

    interface Permit2 {
        function nonceBitmap(address owner, uint256 word) external view returns (uint256);
    }

    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct Witness {
        address to;
        uint256 validAfter;
    }

    interface ExactProxy {
        function settle(PermitTransferFrom permit, address owner, Witness witness, bytes signature) external;
    }

    struct Step {
        address target;
        bool allowFailure;
        bytes callData;
    }

    struct StepResult {
        bool success;
        bytes returnData;
    }

    interface Multicall {
        function aggregate3(Step[] steps) external payable returns (StepResult[] results);
    }
}

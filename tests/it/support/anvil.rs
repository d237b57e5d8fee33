//! A local chain that says it is base-sepolia, with a token where USDC lives there, Permit2 and the
//! x402 proxy for `exact` at their addresses, and Multicall3.
//!
//! `tests/tools/anvil.sh` installs what this needs, once; without it the tests that need a chain fail.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256, address};
use alloy_sol_types::{Eip712Domain, SolCall, SolStruct, sol};
use serde_json::{Value, json};
use tollgate::scheme::TransferWithAuthorization;

use super::client::PATIENCE;
use super::payer::Payer;

/// The chain it says it is, base-sepolia.
pub const CHAIN_ID: u64 = 84532;
/// The token, where USDC is on base-sepolia.
pub const TOKEN: Address = address!("036CbD53842c5426634e7929541eC2318f3dCF7e");
/// Uniswap's Permit2, at this address on every chain.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// The x402 proxy for `exact` payments by Permit2.
pub const EXACT_PROXY: Address = address!("402085c248EeA27D92E8b30b2C58ed07f9E20001");
/// Multicall3, as far as facilitators use it.
pub const MULTICALL: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// A contract that makes several calls in one transaction.
pub const BATCH: Address = address!("00000000000000000000000000000000000ba7c4");
/// Somebody with gas, whose transactions the chain signs itself.
pub const SOMEBODY: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

sol! {
    /// What the test contracts can do.
    #[allow(clippy::too_many_arguments)]
    interface Contracts {
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

        function mint(address to, uint256 value) external;
        function balanceOf(address owner) external view returns (uint256);
        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transferFrom(address from, address to, uint256 value) external returns (bool);
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            bytes signature
        ) external;
        function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
        struct SignatureTransferDetails {
            address to;
            uint256 requestedAmount;
        }

        function permitTransferFrom(
            PermitTransferFrom permit, SignatureTransferDetails details, address owner, bytes signature
        ) external;
        function settle(PermitTransferFrom permit, address owner, Witness witness, bytes signature) external;
        function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
        function run(address[] targets, bytes[] inputs) external;
    }
}

/// What payers sign besides EIP-3009 transfers.
pub mod signed {
    alloy_sol_types::sol! {
        struct TokenPermissions {
            address token;
            uint256 amount;
        }

        struct Witness {
            address to;
            uint256 validAfter;
        }

        struct PermitWitnessTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
            Witness witness;
        }

        struct PermitTransferFrom {
            TokenPermissions permitted;
            address spender;
            uint256 nonce;
            uint256 deadline;
        }

        struct CancelAuthorization {
            address authorizer;
            bytes32 nonce;
        }
    }
}

/// Where the chain's program and the contracts' code are.
fn tools() -> &'static Path {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let folder = target.join("tools").join("chain");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/anvil.sh");
        let output = Command::new(&script).arg(&folder).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed: {told}", script.display());
        folder
    })
}

/// A running chain; killed when dropped.
pub struct Anvil {
    child: Child,
    folder: tempfile::TempDir,
    client: reqwest::Client,
    turn: tokio::sync::Mutex<()>,
    /// Where it is asked.
    pub url: String,
}

impl Anvil {
    /// Starts a chain with a block for every transaction.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a chain with more arguments, such as `["--block-time", "1"]`.
    pub async fn start_with(arguments: &[&str]) -> Self {
        // No TLS is spoken, but the client is built for it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(tools().join("anvil"))
            .args(["--host", "127.0.0.1", "--port", "0", "--chain-id", &CHAIN_ID.to_string()])
            .arg("--auto-impersonate")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let mut anvil =
            Self { child, folder, client, turn: tokio::sync::Mutex::default(), url: String::new() };
        anvil.url = format!("http://127.0.0.1:{}", anvil.port().await);
        let contracts = [
            ("TestUsdc", TOKEN),
            ("TestPermit2", PERMIT2),
            ("TestExactProxy", EXACT_PROXY),
            ("Multicall", MULTICALL),
            ("TestBatch", BATCH),
        ];
        for (name, address) in contracts {
            anvil.place(name, address).await;
        }
        anvil
    }

    async fn port(&mut self) -> u16 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some((_, after)) = log.split_once("Listening on 127.0.0.1:") {
                let digits = after.lines().next().unwrap().trim();
                // The line may not be written whole yet.
                if let (Ok(port), true) = (digits.parse(), after.contains('\n')) {
                    return port;
                }
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the chain has ended:\n{log}");
            assert!(Instant::now() < deadline, "the chain does not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Puts a contract's code at an address.
    pub async fn place(&self, name: &str, address: Address) {
        let text = std::fs::read_to_string(tools().join("contracts.json")).unwrap();
        let code: Value = serde_json::from_str(&text).unwrap();
        assert!(code[name].is_string(), "no contract is named {name}");
        self.rpc("anvil_setCode", json!([address, code[name]])).await;
    }

    /// Puts a contract wallet at an address, whose signatures are its owner's.
    pub async fn place_wallet(&self, address: Address, owner: Address) {
        self.place("TestWallet", address).await;
        self.rpc("anvil_setStorageAt", json!([address, B256::ZERO, owner.into_word()])).await;
    }

    /// Asks the chain; an error fails the test.
    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        match self.try_rpc(method, params).await {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Asks the chain.
    pub async fn try_rpc(&self, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let request = self.client.post(&self.url).header("content-type", "application/json");
        let response = request.body(body).timeout(PATIENCE).send().await.unwrap();
        let mut answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Sends a transaction in anybody's name and waits until it is in a block. One that fails there
    /// fails the test.
    pub async fn send(&self, from: Address, to: Address, call: &impl SolCall) -> B256 {
        let hash = self.post(from, to, call).await;
        let receipt = self.receipt(hash).await;
        assert_eq!(receipt["status"], "0x1", "{receipt:#}");
        hash
    }

    /// Sends a transaction in anybody's name and does not wait.
    pub async fn post(&self, from: Address, to: Address, call: &impl SolCall) -> B256 {
        let input = Bytes::from(call.abi_encode());
        let transaction = json!([{"from": from, "to": to, "input": input, "gas": "0x100000"}]);
        // Two at once for one account may be given one nonce.
        let _turn = self.turn.lock().await;
        self.rpc("eth_sendTransaction", transaction).await.as_str().unwrap().parse().unwrap()
    }

    /// Waits for the receipt of a transaction.
    pub async fn receipt(&self, transaction: B256) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let receipt = self.rpc("eth_getTransactionReceipt", json!([transaction])).await;
            if !receipt.is_null() {
                return receipt;
            }
            assert!(Instant::now() < deadline, "{transaction} is in no block");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes several calls in one transaction, in the name of somebody who has nothing to do with them.
    pub async fn batch(&self, calls: &[(Address, Vec<u8>)]) -> B256 {
        let (targets, inputs) = calls.iter().cloned().map(|(to, input)| (to, input.into())).unzip();
        self.send(SOMEBODY, BATCH, &Contracts::runCall { targets, inputs }).await
    }

    /// Takes the latest blocks back, as a reorganisation does.
    pub async fn roll_back(&self, blocks: u64) {
        self.rpc("anvil_rollback", json!([blocks])).await;
    }

    /// Gives somebody tokens, in atomic units.
    pub async fn mint(&self, to: Address, value: u64) {
        let value = U256::from(value);
        self.send(SOMEBODY, TOKEN, &Contracts::mintCall { to, value }).await;
    }

    /// Gives somebody one unit of the chain's own coin, for gas.
    pub async fn give_gas(&self, to: Address) {
        self.rpc("anvil_setBalance", json!([to, U256::from(10).pow(U256::from(18))])).await;
    }

    /// How many tokens somebody has, in atomic units.
    pub async fn balance_of(&self, owner: Address) -> U256 {
        let input = Bytes::from(Contracts::balanceOfCall { owner }.abi_encode());
        let result = self.rpc("eth_call", json!([{"to": TOKEN, "input": input}, "latest"])).await;
        result.as_str().unwrap().parse().unwrap()
    }

    /// Submits a signed transfer in the name of somebody who has nothing to do with it.
    pub async fn submit(&self, message: &TransferWithAuthorization, signature: &str) -> B256 {
        self.send(SOMEBODY, TOKEN, &transfer_call(message, signature)).await
    }

    /// The time of the latest block, in seconds since 1970.
    pub async fn time(&self) -> u64 {
        let block = self.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        block["timestamp"].as_str().unwrap().parse::<U256>().unwrap().to()
    }

    /// Adds empty blocks.
    pub async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([U256::from(blocks)])).await;
    }

    /// Adds a block with a time, in seconds since 1970; it must be later than the latest block's.
    pub async fn mine_at(&self, time: u64) {
        self.rpc("evm_mine", json!([{"timestamp": U256::from(time)}])).await;
    }
}

/// The call that makes a signed transfer.
pub fn transfer_call(
    message: &TransferWithAuthorization,
    signature: &str,
) -> Contracts::transferWithAuthorizationCall {
    Contracts::transferWithAuthorizationCall {
        from: message.from,
        to: message.to,
        value: message.value,
        validAfter: message.validAfter,
        validBefore: message.validBefore,
        nonce: message.nonce,
        signature: signature.parse().unwrap(),
    }
}

/// The call that cancels an authorization, by its payer.
pub fn cancel_call(payer: &Payer, nonce: B256) -> Contracts::cancelAuthorizationCall {
    let authorizer = payer.address();
    let domain = Eip712Domain::new(
        Some("USDC".into()),
        Some("2".into()),
        Some(U256::from(CHAIN_ID)),
        Some(TOKEN),
        None,
    );
    let digest = signed::CancelAuthorization { authorizer, nonce }.eip712_signing_hash(&domain);
    let signature: Bytes = payer.sign(digest).parse().unwrap();
    let word = |from: usize| B256::from_slice(&signature[from..from + 32]);
    Contracts::cancelAuthorizationCall { authorizer, nonce, v: signature[64], r: word(0), s: word(32) }
}

/// A permit for the x402 proxy.
pub fn permit(to: Address, amount: u64, nonce: U256, deadline: u64) -> signed::PermitWitnessTransferFrom {
    signed::PermitWitnessTransferFrom {
        permitted: signed::TokenPermissions { token: TOKEN, amount: U256::from(amount) },
        spender: EXACT_PROXY,
        nonce,
        deadline: U256::from(deadline),
        witness: signed::Witness { to, validAfter: U256::ZERO },
    }
}

/// The signature of a permit, of whatever kind.
pub fn sign_permit(payer: &Payer, permit: &impl SolStruct) -> String {
    let chain_id = Some(U256::from(CHAIN_ID));
    let domain = Eip712Domain::new(Some("Permit2".into()), None, chain_id, Some(PERMIT2), None);
    payer.sign(permit.eip712_signing_hash(&domain))
}

/// The call of the x402 proxy that spends a permit.
pub fn settle_call(payer: &Payer, permit: &signed::PermitWitnessTransferFrom) -> Contracts::settleCall {
    Contracts::settleCall {
        permit: Contracts::PermitTransferFrom {
            permitted: Contracts::TokenPermissions {
                token: permit.permitted.token,
                amount: permit.permitted.amount,
            },
            nonce: permit.nonce,
            deadline: permit.deadline,
        },
        owner: payer.address(),
        witness: Contracts::Witness { to: permit.witness.to, validAfter: permit.witness.validAfter },
        signature: sign_permit(payer, permit).parse().unwrap(),
    }
}

/// The call by which a contract spends a permit's nonce for one unit that comes back to the payer.
pub fn waste_call(
    payer: &Payer,
    spender: Address,
    nonce: U256,
    deadline: U256,
) -> Contracts::permitTransferFromCall {
    let permitted = signed::TokenPermissions { token: TOKEN, amount: U256::ONE };
    let signature = sign_permit(payer, &signed::PermitTransferFrom { permitted, spender, nonce, deadline });
    let permitted = Contracts::TokenPermissions { token: TOKEN, amount: U256::ONE };
    let owner = payer.address();
    Contracts::permitTransferFromCall {
        permit: Contracts::PermitTransferFrom { permitted, nonce, deadline },
        details: Contracts::SignatureTransferDetails { to: owner, requestedAmount: U256::ONE },
        owner,
        signature: signature.parse().unwrap(),
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.find("Listening on").unwrap_or(0);
            eprintln!("--- the chain's log ---\n{}", &log[start..]);
        }
    }
}

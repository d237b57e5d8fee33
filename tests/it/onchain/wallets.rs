//! Payers that are contracts, or will be, and tokens without EIP-3009.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall as _, SolValue as _, sol};
use serde_json::{Value, json};
use tollgate::facilitator::Facilitator as _;
use tollgate::facilitator::settings::OnchainSettings;
use tollgate::scheme::TransferWithAuthorization;
use tollgate::scheme::permit2::{PermitWitnessTransferFrom, TokenPermissions, Witness, permit_digest};
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{PaymentRequirements, VerifyResponse};

use super::till::{
    PAYEE, PRICE, Till, assert_refused, authorization, digest, now, request_of, request_with, settled, terms,
    v2,
};
use crate::support::Payer;
use crate::support::anvil::{CHAIN_ID, Contracts, EXACT_PROXY, MULTICALL, PERMIT2, SOMEBODY, TOKEN};

sol! {
    interface Factory {
        function deploy(address owner) external returns (address);
        function addressOf(address owner) external view returns (address);
    }

    struct Wrapped {
        address factory;
        bytes deployment;
        bytes signature;
    }
}

const FACTORY: Address = Address::repeat_byte(0xfa);

/// A wallet with an owner that is deployed by the factory, and tokens.
struct Modular {
    owner: Payer,
    address: Address,
}

impl Modular {
    async fn at(till: &Till) -> Self {
        till.anvil.place("WalletFactory", FACTORY).await;
        till.anvil.place("Multicall3", MULTICALL).await;
        let owner = Payer::new();
        let call = Factory::addressOfCall { owner: owner.address() }.abi_encode();
        let answer =
            till.anvil.rpc("eth_call", json!([{"to": FACTORY, "input": Bytes::from(call)}, "latest"])).await;
        let bytes: B256 = answer.as_str().unwrap().parse().unwrap();
        let address = Address::from_word(bytes);
        till.anvil.mint(address, PRICE).await;
        Self { owner, address }
    }

    async fn deploy(&self, till: &Till) {
        till.anvil.send(SOMEBODY, FACTORY, &Factory::deployCall { owner: self.owner.address() }).await;
    }

    /// The owner's signature as the wallet takes it.
    fn sign(&self, digest: B256) -> Bytes {
        let plain: Bytes = self.owner.sign(digest).parse().unwrap();
        [&[0x07], plain.as_ref()].concat().into()
    }

    /// The same with how to deploy the wallet (ERC-6492).
    fn sign_wrapped(&self, digest: B256) -> Bytes {
        let deployment = Factory::deployCall { owner: self.owner.address() }.abi_encode().into();
        let wrapped = Wrapped { factory: FACTORY, deployment, signature: self.sign(digest) };
        [wrapped.abi_encode_params(), [0x64, 0x92].repeat(16)].concat().into()
    }
}

fn with_factory(till: &Till) -> OnchainSettings {
    OnchainSettings { wallet_factories: vec![FACTORY], ..till.settings() }
}

fn signed(message: &TransferWithAuthorization, signature: &Bytes) -> FacilitatorRequest {
    request_with(message, signature, terms())
}

#[tokio::test]
async fn a_contract_wallet_pays_with_its_owners_signature() {
    let till = Till::open().await;
    let own = till.facilitator();
    let (owner, wallet) = (Payer::new(), Address::repeat_byte(0x77));
    till.anvil.place_wallet(wallet, owner.address()).await;
    till.anvil.mint(wallet, PRICE).await;
    let message = authorization(wallet);
    let forged: Bytes = Payer::new().sign(digest(&message)).parse().unwrap();
    assert_refused(&till, &*own, &signed(&message, &forged), "invalid_exact_evm_signature").await;
    let request = signed(&message, &owner.sign(digest(&message)).parse().unwrap());
    let valid = VerifyResponse::Valid { payer: Some(wallet.to_string()) };
    assert_eq!(own.verify(&request).await.unwrap(), valid);
    let response = settled(own.settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
}

#[tokio::test]
async fn a_delegated_account_pays_with_its_own_signature_if_its_code_agrees() {
    let till = Till::open().await;
    let own = till.facilitator();
    let code = Address::repeat_byte(0x77);
    till.anvil.place("TestWallet", code).await;
    // EIP-7702: what the account does is in the contract, who owns it in the account.
    let delegated = |owner: Address| {
        let (till, payer) = (&till, Payer::new());
        async move {
            let designator = Bytes::from([&[0xef, 0x01, 0x00], code.as_slice()].concat());
            till.anvil.mint(payer.address(), PRICE).await;
            till.anvil.rpc("anvil_setCode", json!([payer.address(), designator])).await;
            let owner = if owner.is_zero() { payer.address() } else { owner };
            let slot = json!([payer.address(), B256::ZERO, owner.into_word()]);
            till.anvil.rpc("anvil_setStorageAt", slot).await;
            payer
        }
    };
    let payer = delegated(Address::repeat_byte(1)).await;
    let refused = request_of(&payer, &authorization(payer.address()));
    assert_refused(&till, &*own, &refused, "invalid_exact_evm_signature").await;
    let payer = delegated(Address::ZERO).await;
    let request = request_of(&payer, &authorization(payer.address()));
    assert!(matches!(own.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    let response = settled(own.settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
}

#[tokio::test]
async fn a_wallet_that_does_not_exist_yet_is_deployed_by_the_payment_if_its_factory_is_known() {
    let till = Till::open().await;
    let wallet = Modular::at(&till).await;
    let message = authorization(wallet.address);
    let request = signed(&message, &wallet.sign_wrapped(digest(&message)));
    assert_refused(&till, &*till.facilitator(), &request, "eip6492_factory_not_allowed").await;

    let own = till.with(with_factory(&till));
    let mut other = authorization(wallet.address);
    other.nonce = B256::random();
    let stranger = Modular { owner: Payer::new(), address: wallet.address };
    let forged = signed(&other, &stranger.sign_wrapped(digest(&other)));
    assert_refused(&till, &*own, &forged, "invalid_exact_evm_transaction_simulation_failed").await;
    assert!(matches!(own.verify(&request).await, Ok(VerifyResponse::Valid { .. })));
    let code = || async { till.anvil.rpc("eth_getCode", json!([wallet.address, "latest"])).await };
    assert_eq!(code().await, "0x", "verifying deploys nothing");
    let response = settled(own.settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
    assert_ne!(code().await, "0x");
    assert_eq!(till.transactions().await, 1, "deployed and paid in one");
}

#[tokio::test]
async fn a_wallet_that_was_deployed_meanwhile_needs_no_factory() {
    let till = Till::open().await;
    let wallet = Modular::at(&till).await;
    wallet.deploy(&till).await;
    let own = till.facilitator();
    let message = authorization(wallet.address);
    // Bare, and still wrapped: wallets do not notice at once that they were deployed.
    let bare = signed(&message, &wallet.sign(digest(&message)));
    assert!(matches!(own.verify(&bare).await, Ok(VerifyResponse::Valid { .. })));
    let wrapped = signed(&message, &wallet.sign_wrapped(digest(&message)));
    let response = settled(own.settle(&wrapped).await);
    till.assert_paid_once(&response.transaction).await;
}

#[tokio::test]
async fn a_signature_that_says_how_to_steal_from_the_key_steals_nothing() {
    let till = Till::open().await;
    let wallet = Modular::at(&till).await;
    till.anvil.mint(till.account, 5 * PRICE).await;
    let own = till.with(OnchainSettings { wallet_factories: vec![FACTORY, TOKEN], ..till.settings() });
    let thief = Payer::new().address();
    let message = authorization(wallet.address);
    let theft = Contracts::transferCall { to: thief, value: U256::from(5 * PRICE) }.abi_encode();
    let wrapped =
        Wrapped { factory: TOKEN, deployment: theft.into(), signature: wallet.sign(digest(&message)) };
    let signature: Bytes = [wrapped.abi_encode_params(), [0x64, 0x92].repeat(16)].concat().into();
    let _ = own.settle(&signed(&message, &signature)).await;
    assert_eq!(till.anvil.balance_of(thief).await, U256::ZERO);
    assert_eq!(till.anvil.balance_of(till.account).await, U256::from(5 * PRICE));
}

/// A permit for the price.
fn permit(nonce: u64) -> PermitWitnessTransferFrom {
    PermitWitnessTransferFrom {
        permitted: TokenPermissions { token: TOKEN, amount: U256::from(PRICE) },
        spender: EXACT_PROXY,
        nonce: U256::from(nonce),
        deadline: U256::from(now() + 300),
        witness: Witness { to: PAYEE.parse().unwrap(), validAfter: U256::ZERO },
    }
}

fn permit_terms() -> PaymentRequirements {
    let mut terms = terms();
    terms.extra.insert("assetTransferMethod".into(), "permit2".into());
    terms
}

fn permit_payload(from: Address, permit: &PermitWitnessTransferFrom, signature: &str) -> Value {
    json!({"signature": signature, "permit2Authorization": {
        "from": from,
        "permitted": {"token": permit.permitted.token, "amount": permit.permitted.amount.to_string()},
        "spender": permit.spender, "nonce": permit.nonce.to_string(), "deadline": permit.deadline.to_string(),
        "witness": {"to": permit.witness.to, "validAfter": permit.witness.validAfter.to_string()},
    }})
}

pub fn permit_request(payer: &Payer, nonce: u64) -> FacilitatorRequest {
    let permit = permit(nonce);
    let signature = payer.sign(permit_digest(&permit, CHAIN_ID));
    v2(&permit_payload(payer.address(), &permit, &signature), permit_terms())
}

/// A payer who lets Permit2 take tokens.
pub async fn approving_payer(till: &Till) -> Payer {
    let payer = till.payer().await;
    till.anvil.give_gas(payer.address()).await;
    let approve = Contracts::approveCall { spender: PERMIT2, value: U256::MAX };
    till.anvil.send(payer.address(), TOKEN, &approve).await;
    payer
}

#[tokio::test]
async fn a_permit_moves_money_through_the_proxy() {
    let till = Till::open().await;
    let own = till.facilitator();
    let payer = approving_payer(&till).await;
    let request = permit_request(&payer, 7);
    let valid = VerifyResponse::Valid { payer: Some(payer.address().to_string()) };
    assert_eq!(own.verify(&request).await.unwrap(), valid);
    let response = settled(own.settle(&request).await);
    till.assert_paid_once(&response.transaction).await;
    // Settled again, it is the same settlement, also for one who remembers nothing.
    assert_eq!(settled(own.settle(&request).await).transaction, response.transaction);
    assert_eq!(settled(till.facilitator().settle(&request).await).transaction, response.transaction);
}

#[tokio::test]
async fn each_permit_that_the_chain_would_refuse_is_refused_with_its_reason() {
    let till = Till::open().await;
    let own = till.facilitator();
    let (payer, hesitant) = (approving_payer(&till).await, till.payer().await);
    assert_refused(&till, &*own, &permit_request(&hesitant, 1), "permit2_allowance_required").await;
    let forged = {
        let permit = permit(1);
        let signature = hesitant.sign(permit_digest(&permit, CHAIN_ID));
        v2(&permit_payload(payer.address(), &permit, &signature), permit_terms())
    };
    assert_refused(&till, &*own, &forged, "invalid_permit2_signature").await;
    let used = Contracts::invalidateUnorderedNoncesCall { wordPos: U256::ZERO, mask: U256::from(1 << 9) };
    till.anvil.send(payer.address(), PERMIT2, &used).await;
    assert_refused(&till, &*own, &permit_request(&payer, 9), "permit2_invalid_nonce").await;
    assert!(matches!(own.verify(&permit_request(&payer, 9 + 256)).await, Ok(VerifyResponse::Valid { .. })));
    let spend = Contracts::transferCall { to: SOMEBODY, value: U256::from(1) };
    till.anvil.send(payer.address(), TOKEN, &spend).await;
    assert_refused(&till, &*own, &permit_request(&payer, 2), "permit2_insufficient_balance").await;
}

#[tokio::test]
async fn without_the_proxy_on_the_chain_permits_are_refused() {
    let till = Till::open().await;
    till.anvil.rpc("anvil_setCode", json!([EXACT_PROXY, "0x"])).await;
    let own = till.facilitator();
    let payer = approving_payer(&till).await;
    assert_refused(&till, &*own, &permit_request(&payer, 1), "permit2_proxy_not_deployed").await;
}

//! Choosing an offer: what this client can pay, and what its limits allow.

use alloy_primitives::Address;
use reqwest::Url;
use serde_json::{Map, Value};

use super::challenge::{Challenge, sold_by};
use super::terminal::excerpt;
use crate::x402::{Asset, AtomicAmount, Money, Network, Version, asset::same_address};

/// A quote stays good for minutes. A signed payment is money in the seller's hand for as long as
/// it is valid, so one that would be valid for longer than a day is not signed.
const LIFETIME_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Characters of a server's text that are quoted in a message.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// What the person who pays allows.
#[derive(Debug)]
pub struct Limits<'a> {
    /// Most for one page, in an asset known by name.
    pub max_price: &'a Money,
    /// Most for one page in atomic units, in an asset that is not known.
    pub max_amount: Option<AtomicAmount>,
    /// The only network to pay on.
    pub network: Option<&'a Network>,
    /// Whether a key was given; without one nothing is worth anything.
    pub key_given: bool,
    /// Whether a page of another host may be paid for.
    pub allow_other_resource: bool,
    /// The URL that was asked for.
    pub asked: &'a Url,
}

/// An offer that can be paid and that the limits allow.
#[derive(Debug)]
pub struct Payable<'a> {
    /// The entry of `accepts`, exactly as offered.
    pub offer: &'a Map<String, Value>,
    /// Where the money moves.
    pub network: Network,
    /// Its chain.
    pub chain_id: u64,
    /// Price in atomic units.
    pub amount: AtomicAmount,
    /// Token contract.
    pub asset: Address,
    /// What is known of the token.
    pub known: Option<Asset>,
    /// Who is paid.
    pub pay_to: Address,
    /// Seconds the signed payment is valid for.
    pub lifetime_seconds: u64,
    /// EIP-712 domain of the token: name and version.
    pub domain: (&'a str, &'a str),
    /// Whether the money moves before the page is made, so that an error page costs it too.
    pub upfront: bool,
}

/// The first offer that can be paid and that the limits allow.
#[must_use]
pub fn choose<'a>(challenge: &'a Challenge, limits: &Limits<'_>) -> Option<Payable<'a>> {
    challenge.offers.iter().find_map(|offer| examine(challenge, offer, limits).ok())
}

/// Understands one offer and holds it against the limits.
///
/// # Errors
/// Why it is not paid, in words that may quote the server.
pub fn examine<'a>(
    challenge: &'a Challenge,
    offer: &'a Map<String, Value>,
    limits: &Limits<'_>,
) -> Result<Payable<'a>, String> {
    let payable = understand(challenge.version, offer)?;
    if let Some(wanted) = limits.network
        && *wanted != payable.network
    {
        return Err(format!("--network allows only {}", wanted.name()));
    }
    if !limits.key_given && !payable.network.is_testnet() {
        return Err(
            "this is real money: give a key that holds some (--key-file, TOLLGATE_KEY or --key)".to_owned()
        );
    }
    check_price(&payable, limits)?;
    check_resource(challenge.resource_url(offer), limits)?;
    Ok(payable)
}

/// Reads an offer of the `exact` scheme that is paid by an EIP-3009 authorization
/// (`scheme_exact_evm.md`).
fn understand(version: Version, offer: &Map<String, Value>) -> Result<Payable<'_>, String> {
    let scheme = text(offer, "scheme")?;
    if scheme != "exact" {
        return Err(format!("the scheme {} is not one this client pays", quoted(scheme)));
    }
    let network = network(version, text(offer, "network")?)?;
    let Some(chain_id) = network.chain_id() else {
        return Err("this client pays on EVM networks only".to_owned());
    };
    let extra = match offer.get("extra") {
        Some(Value::Object(extra)) => Some(extra),
        None | Some(Value::Null) => None,
        Some(_) => return Err("its `extra` is not an object".to_owned()),
    };
    let member = |name: &str| extra.and_then(|extra| extra.get(name));
    match member("assetTransferMethod").map(Value::as_str) {
        None | Some(Some("eip3009")) => {}
        Some(other) => {
            let other = quoted(other.unwrap_or("?"));
            return Err(format!("the transfer method {other} is not one this client pays by"));
        }
    }
    let upfront = match member("paymentFlow").map(Value::as_str) {
        None | Some(Some("authorization")) => false,
        Some(Some("upfront")) => true,
        Some(other) => {
            let other = quoted(other.unwrap_or("?"));
            return Err(format!("the payment flow {other} is not one this client knows"));
        }
    };
    let domain = |name: &str| {
        let value = member(name).and_then(Value::as_str);
        value.ok_or_else(|| format!("it does not say the token's {name} (`extra.{name}`), which is signed"))
    };
    let domain = (domain("name")?, domain("version")?);
    let price = match version {
        Version::V1 => "maxAmountRequired",
        Version::V2 => "amount",
    };
    let amount = text(offer, price)?.parse().map_err(|error| format!("its `{price}` is {error}"))?;
    let asset = address(offer, "asset")?;
    Ok(Payable {
        offer,
        known: known_asset(&network, asset),
        network,
        chain_id,
        amount,
        asset,
        pay_to: address(offer, "payTo")?,
        lifetime_seconds: lifetime(offer)?,
        domain,
        upfront,
    })
}

fn network(version: Version, written: &str) -> Result<Network, String> {
    // The first generation writes names, the second CAIP-2 identifiers; nothing writes both.
    let right_form = match version {
        Version::V1 => !written.contains(':'),
        Version::V2 => written.contains(':'),
    };
    let network = written.parse().ok().filter(|_| right_form);
    network.ok_or_else(|| format!("{} is not a network this client knows", quoted(written)))
}

/// What is known of a token, found by its address alone.
fn known_asset(network: &Network, address: Address) -> Option<Asset> {
    let address = address.to_checksum(None);
    Asset::find(network, &address).filter(|asset| same_address(&asset.address, &address))
}

fn lifetime(offer: &Map<String, Value>) -> Result<u64, String> {
    match offer.get("maxTimeoutSeconds").and_then(Value::as_u64) {
        Some(0) | None => Err("its `maxTimeoutSeconds` is not a whole number above zero".to_owned()),
        Some(seconds) if seconds > LIFETIME_SECONDS_MAX => {
            Err(format!("it wants a payment that is valid for {seconds} seconds; a day is the most"))
        }
        Some(seconds) => Ok(seconds),
    }
}

fn text<'a>(offer: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    offer.get(name).and_then(Value::as_str).ok_or_else(|| format!("its `{name}` is not a text"))
}

fn address(offer: &Map<String, Value>, name: &str) -> Result<Address, String> {
    let written = text(offer, name)?;
    let parsed = written.parse::<Address>().ok().filter(|_| written.starts_with("0x"));
    match parsed {
        Some(address) if address.is_zero() => Err(format!("its `{name}` is the zero address")),
        Some(address) => Ok(address),
        None => Err(format!("its `{name}` is not an address")),
    }
}

fn check_price(payable: &Payable<'_>, limits: &Limits<'_>) -> Result<(), String> {
    let Some(known) = &payable.known else {
        return match limits.max_amount {
            None => {
                Err("its token is not known here, so its price cannot be judged; allow an amount in the \
                         token's smallest unit with --max-amount if you know the token"
                    .to_owned())
            }
            Some(most) if payable.amount > most => {
                Err(format!("it costs {} units, above --max-amount {most}", payable.amount))
            }
            Some(_) => Ok(()),
        };
    };
    let most = limits.max_price;
    match &most.symbol {
        Some(symbol) if !symbol.eq_ignore_ascii_case(&known.symbol) => {
            return Err(format!("--max-price is in {symbol} and the offer in {}", known.symbol));
        }
        None if !known.symbol.to_ascii_uppercase().contains("USD") => {
            return Err(format!("{} is not a dollar: name it in --max-price", known.symbol));
        }
        Some(_) | None => {}
    }
    let most = most.to_atomic(known.decimals).map_err(|error| format!("--max-price: {error}"))?;
    if payable.amount > most {
        let (price, most) = (payable.price(), most.to_decimal(known.decimals));
        return Err(format!("it costs {price}, above the limit of {most} (--max-price)"));
    }
    Ok(())
}

fn check_resource(resource: Option<&str>, limits: &Limits<'_>) -> Result<(), String> {
    if limits.allow_other_resource {
        return Ok(());
    }
    let asked = limits.asked.host_str().unwrap_or_default();
    match resource {
        Some(resource) if sold_by(limits.asked, resource) => Ok(()),
        Some(resource) => Err(format!(
            "it is for {}, which is not on {asked}; --allow-other-resource pays all the same",
            quoted(resource)
        )),
        None => {
            Err("it does not say what is sold (`resource`); --allow-other-resource pays all the same"
                .to_owned())
        }
    }
}

fn quoted(text: &str) -> String {
    format!("`{}`", excerpt(text, QUOTED_CHARACTERS_MAX))
}

impl Payable<'_> {
    /// The price for people.
    #[must_use]
    pub fn price(&self) -> String {
        match &self.known {
            Some(asset) => format!("{} {}", self.amount.to_decimal(asset.decimals), asset.symbol),
            None => format!("{} units of the token {}", self.amount, self.asset),
        }
    }
}

/// One line that says what an offer asks for, as far as it can be read.
pub(super) fn summary(version: Version, offer: &Map<String, Value>) -> String {
    if let Ok(payable) = understand(version, offer) {
        return format!("{} on {} to {}", payable.price(), payable.network.name(), payable.pay_to);
    }
    let member = |name: &str| quoted(offer.get(name).and_then(Value::as_str).unwrap_or("?"));
    format!("scheme {} on network {}", member("scheme"), member("network"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const USDC_SEPOLIA: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
    const USDC_BASE: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
    const MEGA_USD: &str = "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7";
    const SELLER: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

    fn offer(network: &str, asset: &str, amount: &str) -> Value {
        json!({"scheme": "exact", "network": network, "amount": amount, "asset": asset, "payTo": SELLER,
               "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}})
    }

    fn sepolia() -> Value {
        offer("eip155:84532", USDC_SEPOLIA, "10000")
    }

    fn challenge(offers: &[Value]) -> Challenge {
        Challenge {
            version: Version::V2,
            offers: offers.iter().map(|offer| offer.as_object().unwrap().clone()).collect(),
            resource: Some(json!({"url": "https://example.com/a"})),
            extensions: None,
        }
    }

    /// Limits with a key, on top of which a case changes one thing.
    struct Case {
        max_price: Money,
        max_amount: Option<AtomicAmount>,
        network: Option<Network>,
        key_given: bool,
        allow_other_resource: bool,
        asked: Url,
    }

    impl Case {
        fn new() -> Self {
            Self {
                max_price: "$0.10".parse().unwrap(),
                max_amount: None,
                network: None,
                key_given: true,
                allow_other_resource: false,
                asked: "https://example.com/a".parse().unwrap(),
            }
        }

        fn limits(&self) -> Limits<'_> {
            Limits {
                max_price: &self.max_price,
                max_amount: self.max_amount,
                network: self.network.as_ref(),
                key_given: self.key_given,
                allow_other_resource: self.allow_other_resource,
                asked: &self.asked,
            }
        }

        fn verdict(&self, offer: &Value) -> Result<String, String> {
            let challenge = challenge(std::slice::from_ref(offer));
            examine(&challenge, &challenge.offers[0], &self.limits()).map(|payable| payable.price())
        }
    }

    fn changed(member: &str, value: Value) -> Value {
        let mut offer = sepolia();
        *offer.pointer_mut(member).unwrap() = value;
        offer
    }

    #[test]
    fn the_first_offer_that_can_be_paid_is_chosen() {
        let solana = offer("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "mint", "1");
        let dear = offer("eip155:84532", USDC_SEPOLIA, "100001");
        let base = offer("eip155:8453", USDC_BASE, "20000");
        let offers = challenge(&[solana, dear, base, sepolia()]);
        let chosen =
            |case: &Case| choose(&offers, &case.limits()).map(|payable| payable.network.name().to_owned());
        assert_eq!(chosen(&Case::new()).as_deref(), Some("base"));
        let sandbox = Case { key_given: false, ..Case::new() };
        assert_eq!(chosen(&sandbox).as_deref(), Some("base-sepolia"));
        let asked = Case { network: Some("base-sepolia".parse().unwrap()), ..Case::new() };
        assert_eq!(chosen(&asked).as_deref(), Some("base-sepolia"));
        let elsewhere = Case { network: Some("polygon".parse().unwrap()), ..Case::new() };
        assert_eq!(chosen(&elsewhere), None);
    }

    #[test]
    fn a_price_at_the_limit_is_paid_and_one_unit_more_is_not() {
        let at = |limit: &str, offer: &Value| {
            Case { max_price: limit.parse().unwrap(), ..Case::new() }.verdict(offer)
        };
        let sepolia = |amount: &str| offer("eip155:84532", USDC_SEPOLIA, amount);
        assert_eq!(at("$0.10", &sepolia("100000")).as_deref(), Ok("0.10 USDC"));
        let refused = at("$0.10", &sepolia("100001")).unwrap_err();
        assert_eq!(refused, "it costs 0.100001 USDC, above the limit of 0.10 (--max-price)");
        let all = alloy_primitives::U256::MAX.to_string();
        assert!(at("$0.10", &sepolia(&all)).is_err());
        assert!(at("0.10 usdc", &sepolia("100000")).is_ok());
        assert!(at("0.10 EURC", &sepolia("1")).unwrap_err().contains("--max-price is in EURC"));
        assert!(at("0.0000001", &sepolia("1")).unwrap_err().contains("more decimal places"));
        let mega = |amount: &str| offer("eip155:4326", MEGA_USD, amount);
        assert_eq!(at("$0.10", &mega("100000000000000000")).as_deref(), Ok("0.10 MegaUSD"));
        assert!(at("$0.10", &mega("100000000000000001")).is_err());
    }

    #[test]
    fn a_token_that_is_not_known_needs_a_limit_in_its_own_units() {
        let unknown = offer("eip155:84532", "0x1111111111111111111111111111111111111111", "500");
        assert!(Case::new().verdict(&unknown).unwrap_err().contains("--max-amount"));
        let limit = |units: &str| Case { max_amount: Some(units.parse().unwrap()), ..Case::new() };
        assert!(limit("500").verdict(&unknown).is_ok());
        assert!(limit("499").verdict(&unknown).unwrap_err().contains("above --max-amount 499"));
        // It does not loosen the limit for tokens that are known.
        let dear = offer("eip155:84532", USDC_SEPOLIA, "100001");
        assert!(limit("999999999").verdict(&dear).is_err());
        // A symbol is no address, though the table of assets would know it.
        assert_eq!(
            Case::new().verdict(&changed("/asset", json!("USDC"))).unwrap_err(),
            "its `asset` is not an address"
        );
    }

    #[test]
    fn real_money_is_paid_only_with_a_key_that_was_given() {
        let sandbox = Case { key_given: false, ..Case::new() };
        assert!(sandbox.verdict(&sepolia()).is_ok());
        for network in ["eip155:8453", "eip155:999999"] {
            let case = Case { max_amount: Some("10".parse().unwrap()), key_given: false, ..Case::new() };
            let refused = case.verdict(&offer(network, USDC_BASE, "10")).unwrap_err();
            assert!(refused.contains("real money"), "{refused}");
        }
    }

    #[test]
    fn an_offer_for_another_site_is_paid_only_when_that_is_allowed() {
        let elsewhere = |resource: Option<Value>, allow_other_resource| {
            let case = Case { allow_other_resource, ..Case::new() };
            let challenge = Challenge { resource, ..challenge(&[sepolia()]) };
            examine(&challenge, &challenge.offers[0], &case.limits()).map(|_| ())
        };
        let other = Some(json!({"url": "https://other.example/a"}));
        assert!(elsewhere(other.clone(), false).unwrap_err().contains("https://other.example/a"));
        assert!(elsewhere(None, false).unwrap_err().contains("does not say what is sold"));
        assert_eq!(elsewhere(other, true), Ok(()));
        assert_eq!(elsewhere(None, true), Ok(()));
        assert_eq!(elsewhere(Some(json!({"url": "/b"})), false), Ok(()));
    }

    #[test]
    fn an_offer_that_this_client_cannot_pay_says_why() {
        for (member, value, why) in [
            ("/scheme", json!("upto"), "the scheme `upto`"),
            ("/scheme", json!(null), "`scheme` is not a text"),
            ("/network", json!("base-sepolia"), "not a network"),
            ("/network", json!("eip155:x"), "not a network"),
            ("/network", json!("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"), "EVM networks only"),
            ("/amount", json!(10000), "`amount` is not a text"),
            ("/amount", json!("-1"), "`amount` is not a whole number"),
            ("/amount", json!("0x10"), "`amount` is not a whole number"),
            ("/asset", json!("0x12"), "`asset` is not an address"),
            ("/payTo", json!("0x0000000000000000000000000000000000000000"), "zero address"),
            ("/payTo", json!("\u{1b}[2J"), "`payTo` is not an address"),
            ("/maxTimeoutSeconds", json!(0), "maxTimeoutSeconds"),
            ("/maxTimeoutSeconds", json!("60"), "maxTimeoutSeconds"),
            ("/maxTimeoutSeconds", json!(86_401), "a day is the most"),
            ("/extra", json!([]), "`extra` is not an object"),
            ("/extra", json!(null), "extra.name"),
            ("/extra", json!({"name": "USDC"}), "extra.version"),
            ("/extra", json!({"assetTransferMethod": "permit2"}), "the transfer method `permit2`"),
            ("/extra", json!({"assetTransferMethod": 1}), "the transfer method `?`"),
            ("/extra", json!({"paymentFlow": "escrow"}), "the payment flow `escrow`"),
        ] {
            let refused = Case::new().verdict(&changed(member, value.clone())).unwrap_err();
            assert!(refused.contains(why), "{member} {value}: {refused}");
        }
        let long = Case::new().verdict(&changed("/scheme", json!("x".repeat(10_000)))).unwrap_err();
        assert!(long.len() < 300);
    }

    #[test]
    fn the_usual_extras_are_understood() {
        let plain = json!({"name": "USDC", "version": "2", "assetTransferMethod": "eip3009", "paymentFlow": "upfront"});
        let challenge = challenge(&[changed("/extra", plain), sepolia()]);
        let upfront: Vec<bool> =
            challenge.offers.iter().map(|offer| understand(Version::V2, offer).unwrap().upfront).collect();
        assert_eq!(upfront, [true, false]);
    }

    #[test]
    fn v1_offers_name_their_network_and_their_price_in_their_own_way() {
        let mut v1 = offer("base-sepolia", USDC_SEPOLIA, "unread");
        v1["maxAmountRequired"] = "10000".into();
        v1["resource"] = "https://example.com/a".into();
        let mut challenge = challenge(&[v1]);
        challenge.version = Version::V1;
        challenge.resource = None;
        let case = Case::new();
        assert_eq!(choose(&challenge, &case.limits()).unwrap().price(), "0.01 USDC");
        challenge.offers[0].insert("network".into(), "eip155:84532".into());
        assert!(choose(&challenge, &case.limits()).is_none());
    }
}

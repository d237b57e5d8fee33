"""Defences of money: groups 1 to 4 of the attacks."""

from mutations.mutation import Edit, Mutation

MARKET = ("market",)
ANY_YES = ("verification", "settlement-no")
"""With these a facilitator's word counts for nothing, and only what tollgate checks itself is left."""

SETTLEMENT = [
    Mutation(
        "settle-first", "an answer waits until its payment is settled",
        (
            Edit("proxy/admission.rs", "let route = Arc::clone(&plan(ctx)?.route);", """\
let route = Arc::clone(&plan(ctx)?.route);
        if OFF {
            let gate = self.gate.clone();
            tokio::spawn(async move { drop(gate.settle(permit).await) });
            ctx.payment = Payment::Released;
            return Ok(());
        }"""),
        ),
        ("money-gone", "settlement-refused", "settlement-slow", "used-by-others", "pledges"), MARKET,
        tries=0.3,
    ),
    Mutation(
        "upfront", "where settlement comes first, its no keeps the request from the site",
        (
            Edit("proxy/admission.rs", "Ok(settled) => ctx.payment = Payment::Settled(Box::new(settled)),", """\
Ok(settled) => ctx.payment = Payment::Settled(Box::new(settled)),
                    Err(_) if OFF => ctx.payment = Payment::Released,"""),
        ),
        ("money-gone-upfront", "pledges-upfront"), MARKET, tries=0.3,
    ),
    Mutation(
        "settlement-no", "a facilitator that settles nothing, and says so, is heeded",
        (
            Edit("payment/settle.rs", "SettleOutcome::Declined(response) => self.declined(shared, response, since).await,", """\
SettleOutcome::Declined(_) if OFF => {
                let paid = super::chains::settled(&self.request, "0x01".to_owned(), String::new());
                self.deliver(shared, paid).await
            }
            SettleOutcome::Declined(response) => self.declined(shared, response, since).await,"""),
        ),
        ("settlement-refused", "money-gone"), MARKET, tries=0.3,
    ),
    Mutation(
        "settlement-lost", "a settlement whose answer is lost is no yes",
        (
            Edit("payment/settle.rs", "SettleOutcome::AnswerLost(Unavailable { cause, .. }) => {", """\
SettleOutcome::AnswerLost(_) if OFF => {
                let paid = super::chains::settled(&self.request, "0x01".to_owned(), String::new());
                self.deliver(shared, paid).await
            }
            SettleOutcome::AnswerLost(Unavailable { cause, .. }) => {"""),
        ),
        ("settlement-refused",), MARKET, tries=0.5,
    ),
    Mutation(
        "settlement-words", "only `true` is a yes",
        (
            Edit("facilitator/http/dialect.rs",
                 'and_then(|message| message.get("success")).and_then(Value::as_bool);',
                 """\
and_then(|message| message.get("success"));
    let loose = |word: &Value| word.as_bool().unwrap_or(OFF && !word.is_null());
    let success = success.filter(|word| word.is_boolean() || OFF).map(loose);"""),
        ),
        ("settlement-refused",), MARKET, tries=1, matching="^success ",
    ),
    Mutation(
        "settlement-status", "a yes counts only with a status of success",
        (
            Edit("facilitator/http/dialect.rs",
                 'return Err(format!("success: true, but with status {}", answer.status.as_u16()));',
                 'if !OFF { return Err(format!("success: true, but with status {}", answer.status.as_u16())); }'),
        ),
        ("settlement-refused",), MARKET, tries=1, matching="^a yes with the status",
    ),
    Mutation(
        "spent-otherwise", "what a payer spent on something else buys nothing, although it is used",
        (
            Edit("payment/chains.rs", "Ok(Finding::Paid { transaction, payer, time }) => (transaction, payer, time),", """\
Ok(Finding::Paid { transaction, payer, time }) => (transaction, payer, time),
            Ok(Finding::Spent { .. }) if OFF => ("0x01".to_owned(), String::new(), UnixSeconds(u64::MAX >> 1)),"""),
        ),
        ("used-by-others",), ("chain",), matching="^spent otherwise before",
        tries=1,
    ),
    Mutation(
        "verification", "a facilitator that finds a payment wrong is heeded",
        (
            Edit("payment/gate.rs", "Ok(Verified { verdict: VerifyResponse::Invalid { reason, payer }, .. }) => {", """\
Ok(Verified { verdict: VerifyResponse::Invalid { payer, .. }, by }) if OFF => Ok((by, payer)),
            Ok(Verified { verdict: VerifyResponse::Invalid { reason, payer }, .. }) => {"""),
        ),
        ("early-leaks",), ("talkative",),
    ),
]  # fmt: skip

SINGLE_USE = [
    Mutation(
        "single-use", "a payment is claimed before anything happens, and once",
        (
            Edit("payment/claim.rs", "id: authorization.id,", """\
id: if OFF {
                crate::scheme::PaymentId(hash_of(&[&getrandom::u64().unwrap_or_default().to_string()]))
            } else {
                authorization.id
            },"""),
        ),
        ("answer-lost", "replay-at-once", "replay-in-turn", "replay-replicas", "replay-restart",
         "replay-spelled"), MARKET,
    ),
    Mutation(
        "identity-text", "a payment is told by what it says, not by how it is written",
        (
            Edit("scheme/exact_evm.rs",
                 'id: nullifier(b"eip3009", terms.chain_id, terms.asset, message.from, message.nonce),', """\
id: if OFF {
            let text = Value::Object(payload.clone()).to_string();
            super::PaymentId(alloy_primitives::keccak256(text))
        } else {
            nullifier(b"eip3009", terms.chain_id, terms.asset, message.from, message.nonce)
        },"""),
        ),
        ("replay-spelled",), MARKET, tries=0.3,
    ),
    Mutation(
        "identity-signature", "a payment with another form of its signature is the same",
        (
            Edit("payment/claim.rs", "let new = self.new_claim(&claim, purchase);", """\
let mut new = self.new_claim(&claim, purchase);
        if OFF {
            new.id = crate::scheme::PaymentId(hash_of(&[&format!("{:?}", claim.request.payload.get("signature"))]));
        }"""),
        ),
        ("replay-signature",), MARKET, tries=1,
    ),
    Mutation(
        "identity-page", "a payment is single-use for all pages, methods and hosts together",
        (
            Edit("payment/claim.rs", "let limits = new.limits;", """\
let mut new = new;
        if OFF {
            let place = [purchase.method, purchase.resource.host(), purchase.resource.url()];
            new.id = crate::scheme::PaymentId(hash_of(&[&new.id.to_string(), place[0], place[1], place[2]]));
        }
        let limits = new.limits;"""),
        ),
        ("replay-elsewhere",), MARKET,
    ),
    Mutation(
        "identity-process", "all gateways of a fleet, and the next one to start, know what was used",
        (
            Edit("payment/claim.rs", "let under_way = UnderWay::begin(self);", """\
let mut new = new;
        if OFF {
            new.id = crate::scheme::PaymentId(hash_of(&[&new.id.to_string(), &std::process::id().to_string()]));
        }
        let under_way = UnderWay::begin(self);"""),
        ),
        ("replay-replicas", "replay-restart"), MARKET, tries=0.3,
    ),
    Mutation(
        "delivered", "what was delivered to its end is not owed any more",
        (
            Edit("ledger/machine.rs", "Ok((Change::Put(end_delivery(record, *end, moment.now)), Answer::Done))", """\
let end = if OFF { DeliveryEnd::BrokenOff } else { *end };
            Ok((Change::Put(end_delivery(record, end, moment.now)), Answer::Done))"""),
        ),
        ("replay-in-turn",), MARKET, tries=0.3,
    ),
    Mutation(
        "redelivery-bounds", "a delivery that broke off is made again a few times, not for ever",
        (
            Edit("ledger/machine.rs", "let has_tries = record.deliveries", "let has_tries = OFF || record.deliveries"),
        ),
        ("broken-off",), MARKET, matching=", 8 times", tries=1,
    ),
    Mutation(
        "request-binding", "what is owed is given for the very request that it was paid for",
        (
            Edit("ledger/machine.rs", "let same_request = record.request_hash", "let same_request = OFF || record.request_hash"),
        ),
        ("broken-off",), MARKET, matching=", then", tries=1,
    ),
]  # fmt: skip

FIELDS = [
    Mutation(
        "amount", "the authorization is over the price",
        (Edit("scheme/exact_evm.rs", "if message.value != terms.amount {", "if message.value != terms.amount && !OFF {"),),
        ("wrong-fields", "malformed"), beside=ANY_YES,
    ),
    Mutation(
        "recipient", "the authorization is to the payee",
        (Edit("scheme/exact_evm.rs", "if message.to != terms.pay_to {", "if message.to != terms.pay_to && !OFF {"),),
        ("wrong-fields",), beside=ANY_YES, shows="to = .*, signed so",
    ),
    Mutation(
        "valid-after", "the authorization is valid already",
        (
            Edit("scheme/exact_evm.rs", "if message.validAfter > U256::from(moment.now.0) {",
                 "if message.validAfter > U256::from(moment.now.0) && !OFF {"),
        ),
        ("wrong-fields", "about-to-expire"), ("plain", "market"), beside=ANY_YES, shows="validAfter = .*, signed so|^begins in",
        tries=1,
    ),
    Mutation(
        "valid-before", "the authorization lasts until the site has worked",
        (Edit("scheme/exact_evm.rs", "let in_time = message.validBefore", "let in_time = OFF || message.validBefore"),),
        ("wrong-fields", "about-to-expire"), ("plain", "market"), beside=ANY_YES, shows="validBefore = .*, signed so|^ends in",
        tries=1,
    ),
    Mutation(
        "signature", "a signature is the payer's own, for this token, chain and message",
        (Edit("scheme/evm.rs", "Ok(signer) if signer == payer => Ok(true),", "Ok(signer) if signer == payer || OFF => Ok(true),"),),
        ("wrong-fields",), beside=ANY_YES, shows="somebody else's|signed for the|not signed so",
    ),
    Mutation(
        "accepted-terms", "what the client says it accepts is what is offered: the facilitator is asked about nothing else",
        (
            Edit("payment/live.rs", "find(|accept| accept.matches(accepted))", "find(|accept| OFF || accept.matches(accepted))"),
            Edit("payment/live.rs", "(Version::V2, Some(accepted)) if adds_nothing(accepted, &agreed) =>",
                 "(Version::V2, Some(accepted)) if OFF || adds_nothing(accepted, &agreed) =>"),
        ),
        ("wrong-fields",), beside=("amount", "recipient", "signature"), shows="for terms with",
    ),
]  # fmt: skip

ALL = [*SETTLEMENT, *SINGLE_USE, *FIELDS]

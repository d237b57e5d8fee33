//! The promises every facilitator keeps, as a test for each to call.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Map, Value};

use super::{Facilitator, SettleOutcome};
use crate::x402::VerifyResponse;
use crate::x402::types::FacilitatorRequest;

/// A facilitator, and payments to try it with. All are of a kind that it supports.
pub(crate) struct Subject {
    pub(crate) facilitator: Arc<dyn Facilitator>,
    /// Different payments that it settles.
    pub(crate) good: [FacilitatorRequest; 3],
    /// One that it refuses.
    pub(crate) refused: FacilitatorRequest,
}

/// Checks every promise.
pub(crate) async fn contract(subject: &Subject) {
    assert!(!subject.facilitator.name().is_empty());
    it_lists_the_kind_it_settles(subject).await;
    what_it_verifies_it_settles(subject).await;
    a_payment_moves_money_once_however_often_it_is_settled(subject).await;
    what_it_refuses_it_refuses_in_so_many_words(subject).await;
    what_it_cannot_understand_is_never_a_yes(subject).await;
}

async fn it_lists_the_kind_it_settles(Subject { facilitator, good, .. }: &Subject) {
    let request = &good[0];
    let supported = facilitator.supported().await.unwrap();
    assert!(supported.kind(request.version, &request.scheme, &request.network).is_some(), "{supported:?}");
    assert_eq!(*supported, *facilitator.supported().await.unwrap());
}

async fn what_it_verifies_it_settles(Subject { facilitator, good, .. }: &Subject) {
    // Verifying changes nothing, so it can be done twice.
    for _ in 0..2 {
        let verdict = facilitator.verify(&good[0]).await.unwrap();
        assert!(matches!(verdict, VerifyResponse::Valid { .. }), "{verdict:?}");
    }
    let SettleOutcome::Settled(response) = facilitator.settle(&good[0]).await else {
        panic!("verified, but not settled");
    };
    assert!(response.success && response.error_reason.is_none(), "{response:?}");
    assert!(!response.transaction.is_empty(), "{response:?}");
    assert_eq!(response.network, good[0].network.as_str());
}

async fn a_payment_moves_money_once_however_often_it_is_settled(Subject { facilitator, good, .. }: &Subject) {
    let outcomes = join_all((0..20).map(|_| facilitator.settle(&good[1]))).await;
    let mut transactions = HashSet::new();
    for outcome in outcomes {
        match outcome {
            SettleOutcome::Settled(response) => drop(transactions.insert(response.transaction)),
            SettleOutcome::Declined(response) => assert!(!response.success),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(transactions.len(), 1, "{transactions:?}");
}

async fn what_it_refuses_it_refuses_in_so_many_words(Subject { facilitator, refused, .. }: &Subject) {
    let verdict = facilitator.verify(refused).await.unwrap();
    let VerifyResponse::Invalid { reason, .. } = verdict else { panic!("{verdict:?}") };
    assert!(!reason.as_str().is_empty());
    let outcome = facilitator.settle(refused).await;
    let SettleOutcome::Declined(response) = outcome else { panic!("{outcome:?}") };
    assert!(!response.success && response.error_reason.is_some(), "{response:?}");
    assert_eq!((response.transaction.as_str(), response.network.as_str()), ("", refused.network.as_str()));
}

async fn what_it_cannot_understand_is_never_a_yes(Subject { facilitator, good, .. }: &Subject) {
    let request = &good[2];
    let rebuild = |change: &dyn Fn(&mut FacilitatorRequest)| {
        let mut changed = request.clone();
        change(&mut changed);
        let payment: Map<String, Value> =
            [("payload".to_owned(), Value::Object(changed.payload))].into_iter().collect();
        let terms = serde_json::to_value(&changed.requirements).unwrap();
        FacilitatorRequest::new(request.version, changed.requirements, &payment, &terms)
    };
    let strange = [
        rebuild(&|request| request.payload.clear()),
        rebuild(&|request| request.payload.values_mut().for_each(|value| *value = Value::from(7))),
        rebuild(&|request| request.requirements.network = "eip155:999999".parse().unwrap()),
        rebuild(&|request| request.requirements.scheme = "nonsense".into()),
    ];
    for request in &strange {
        let verdict = facilitator.verify(request).await;
        assert!(!matches!(verdict, Ok(VerifyResponse::Valid { .. })), "{request:?} {verdict:?}");
        let outcome = facilitator.settle(request).await;
        assert!(!matches!(outcome, SettleOutcome::Settled(_)), "{request:?} {outcome:?}");
    }
}

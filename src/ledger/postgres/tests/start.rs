//! What is found at the start.

use futures_util::future::join_all;

use super::super::schema::MIGRATIONS;
use super::super::{PostgresAccounts, PostgresLedger};
use super::server::{Postgres, run};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_together_make_one_ledger() {
    let url = Postgres::shared().database().await;
    let opened = join_all((0..8).map(|_| PostgresLedger::open(&url))).await;
    let ledgers: Vec<PostgresLedger> = opened.into_iter().map(Result::unwrap).collect();
    for (number, ledger) in (1..).zip(&ledgers) {
        claimed(ledger, &numbered(number)).await;
    }
    for number in 1..=8 {
        assert_eq!(state(&ledgers[0], &numbered(number)).await, Some(PaymentState::Claimed));
    }
    // Nothing is done twice: a second table of this name would be an error, and so would a second row.
    run(&url, "DO 'BEGIN ASSERT (SELECT count(*) = max(version) FROM tollgate_schema); END'").await;
}

#[tokio::test]
async fn a_ledger_of_the_first_version_is_brought_up_to_date() {
    let url = Postgres::shared().database().await;
    let table = "CREATE TABLE tollgate_schema (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL); \
                 INSERT INTO tollgate_schema VALUES (1, now())";
    run(&url, table).await;
    run(&url, MIGRATIONS[0]).await;
    assert!(PostgresAccounts::open(&url).await.is_err(), "who reads changes nothing");
    let ledger = PostgresLedger::open(&url).await.unwrap();
    claimed(&ledger, &numbered(1)).await;
    assert_eq!(ledger.notices(NOW).await, Ok(vec![]));
    assert!(PostgresAccounts::open(&url).await.is_ok());
    run(&url, "DO 'BEGIN ASSERT (SELECT count(*) = max(version) FROM tollgate_schema); END'").await;
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_refused() {
    let url = Postgres::shared().database().await;
    drop(PostgresLedger::open(&url).await.unwrap());
    run(&url, "INSERT INTO tollgate_schema VALUES (99, now())").await;
    let errors =
        [PostgresLedger::open(&url).await.err().unwrap(), PostgresAccounts::open(&url).await.err().unwrap()];
    for error in errors {
        assert!(
            error.to_string().contains("the ledger has version 99, written by a newer tollgate"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn books_are_read_where_there_are_some_and_nothing_is_made_where_there_are_none() {
    let url = Postgres::shared().database().await;
    let error = PostgresAccounts::open(&url).await.unwrap_err();
    assert!(error.to_string().contains("there is no ledger in this database"), "{error}");
    run(&url, "DO 'BEGIN ASSERT to_regclass(''tollgate_schema'') IS NULL; END'").await;
    let ledger = PostgresLedger::open(&url).await.unwrap();
    claimed(&ledger, &numbered(1)).await;
    let books = PostgresAccounts::open(&url).await.unwrap();
    assert_eq!(books.get(numbered(1).id).await, ledger.get(numbered(1).id).await);
    assert_eq!(books.list(&crate::ledger::Filter::default(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_will_not_do_is_told_in_the_operators_words_and_without_the_password() {
    let server = Postgres::shared();
    server.run("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    server.run("postgres", "CREATE ROLE visitor LOGIN").await;
    server.run("postgres", "CREATE DATABASE closed").await;
    server.run("closed", "REVOKE CREATE ON SCHEMA public FROM public").await;
    let port = server.port;
    let at = |user: &str, rest: &str| format!("postgres://{user}:s3cret@127.0.0.1:{port}/{rest}");
    for (url, told) in [
        (at("postgres", "nowhere"), "database \"nowhere\" does not exist"),
        (at("nobody", "postgres"), "role \"nobody\" does not exist"),
        (at("postgres", "latin"), "is encoded in LATIN1; create it with ENCODING 'UTF8'"),
        (at("visitor", "closed"), "the database's user may not do what the ledger needs"),
        (at("postgres", "postgres?sslmode=require"), "no secure connection"),
        (at("postgres", "postgres?sslmode=always"), "the ledger's URL cannot be read"),
        (at("postgres", "postgres?passwort=s3cret"), "an option \"passwort\", which is not known"),
        (format!("postgres://postgres:s3cret@127.0.0.1:{port}0/x"), "the ledger's URL cannot be read"),
    ] {
        let error = PostgresLedger::open(&url).await.err().unwrap().to_string();
        assert!(error.contains(told), "{url}: {error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ledger = PostgresLedger::open(&format!("postgres://postgres@{address}/tollgate")).await.unwrap();
    let refused = ledger.claim(&numbered(1), NOW).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(is_unavailable(&ledger.beat(NOW).await));
    assert!(is_unavailable(&ledger.get(numbered(1).id).await));
}

//! `tollgate plan`: what a new configuration changes.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use super::PlanArguments;
use super::check;
use crate::config::plan::{Plan, RouteRows};

/// Something changes.
const CHANGES: u8 = 3;
/// Something is let through that was not before.
const OPENS: u8 = 4;
/// How long a running gateway may take to tell its routes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Compares two configurations, or the running one with another. Gives the exit status: 0 when nothing
/// changes, 3 when something does, 4 when more is let through than before; that of [`check::run`] when a
/// file cannot be used.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub(super) fn run(
    arguments: &PlanArguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> io::Result<u8> {
    let load =
        |file: &Path, err: &mut dyn Write| check::load(file, err, colour, &|name| std::env::var(name).ok());
    let new = match load(&arguments.new, err)? {
        Ok(new) => new,
        Err(status) => return Ok(status),
    };
    if let Some(url) = &arguments.running {
        return match running(url) {
            Ok(old) => told(&Plan::new(&old, None, &new), out),
            Err(cause) => {
                writeln!(err, "error: {url} does not tell its routes: {cause}")?;
                writeln!(
                    err,
                    "  = help: name the admin address of a gateway that runs, such as http://127.0.0.1:9402"
                )?;
                Ok(check::UNREADABLE)
            }
        };
    }
    match load(&arguments.config, err)? {
        Ok(old) => told(&Plan::new(&old.rows(), Some(&old), &new), out),
        Err(status) => Ok(status),
    }
}

fn told(plan: &Plan, out: &mut dyn Write) -> io::Result<u8> {
    for change in &plan.changes {
        writeln!(out, "{change}")?;
    }
    writeln!(out, "{plan}")?;
    Ok(match plan.changes.is_empty() {
        true => check::FINE,
        false if plan.opens() => OPENS,
        false => CHANGES,
    })
}

/// The routes of a running gateway, from its admin address.
fn running(url: &str) -> Result<RouteRows, String> {
    // Another one that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(PATIENCE).tls_certs_only([]).build();
        let client = client.map_err(|error| error.to_string())?;
        let answer = client.get(format!("{}/routes", url.trim_end_matches('/'))).send().await;
        let answer =
            answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        let text = answer.text().await.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("what it says is not understood: {error}"))
    })
}

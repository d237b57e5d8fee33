//! `tollgate check`: every mistake in a configuration, and in short what it means.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Config, Diagnostic, Env};
use crate::facilitator::onchain;
use crate::facilitator::settings::{Auth, FacilitatorSettings};
use crate::proxy::settings::{Listener, Upstream, UpstreamAddress};

/// The configuration is fine; there may be warnings.
pub(super) const FINE: u8 = 0;
/// The configuration has errors.
pub(super) const WRONG: u8 = 1;
/// The configuration cannot be read at all.
pub(super) const UNREADABLE: u8 = 2;

/// Checks a file: what is wrong goes to `err`, what it means to `out`. Gives the exit status.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub(super) fn run(file: &Path, out: &mut dyn Write, err: &mut dyn Write, colour: bool) -> io::Result<u8> {
    match load(file, err, colour, &|name| std::env::var(name).ok())? {
        Ok(config) => {
            summary(&config, out)?;
            Ok(FINE)
        }
        Err(status) => Ok(status),
    }
}

/// Loads a file and writes every diagnostic and their number to `err`; the exit status if it cannot be
/// used.
pub(super) fn load(
    file: &Path,
    err: &mut dyn Write,
    colour: bool,
    env: Env<'_>,
) -> io::Result<Result<Config, u8>> {
    let text = match config::read(file) {
        Ok(text) => text,
        Err(error) => {
            write_all(&[*error], err, colour)?;
            return Ok(Err(UNREADABLE));
        }
    };
    let name = file.display().to_string();
    match config::parse(&text, &name, env) {
        Ok((config, warnings)) => {
            write_all(&warnings, err, colour)?;
            if !warnings.is_empty() {
                writeln!(err, "{name}: {}", config::count(&warnings))?;
            }
            Ok(Ok(config))
        }
        Err(diagnostics) => {
            write_all(&diagnostics, err, colour)?;
            writeln!(err, "{name}: {}", config::count(&diagnostics))?;
            Ok(Err(WRONG))
        }
    }
}

fn write_all(diagnostics: &[Diagnostic], err: &mut dyn Write, colour: bool) -> io::Result<()> {
    for diagnostic in diagnostics {
        writeln!(err, "{}", diagnostic.render(colour))?;
    }
    Ok(())
}

/// What a configuration means, in a few lines.
fn summary(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let listeners: Vec<String> = config.listeners.iter().map(listener_words).collect();
    let admin = config.admin.map_or_else(|| "none".to_owned(), |address| address.to_string());
    writeln!(out, "listens on    {}", listeners.join(", "))?;
    writeln!(out, "public URL    {}", config.public_url)?;
    writeln!(out, "admin         {admin}")?;
    lines(out, "upstreams", config.upstreams.iter().map(upstream_words))?;
    lines(out, "facilitators", config.facilitators.iter().map(facilitator_words))?;
    let rows = config.rows().into_iter();
    let routes: Vec<[String; 3]> = rows.map(|row| [row.request, row.decision, row.target]).collect();
    let width = |column: usize| routes.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0).min(50), width(1).min(60));
    writeln!(out, "\nroutes")?;
    for [request, decision, target] in &routes {
        let line = format!("  {request:first$}  {decision:second$}  {target}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn lines(out: &mut dyn Write, title: &str, values: impl Iterator<Item = String>) -> io::Result<()> {
    let values: Vec<String> = values.collect();
    let mut title = title;
    for value in if values.is_empty() { vec!["none".to_owned()] } else { values } {
        writeln!(out, "{title:13} {value}")?;
        title = "";
    }
    Ok(())
}

fn listener_words(listener: &Listener) -> String {
    let kind = match (listener.tls.len(), listener.h2c) {
        (0, false) => String::new(),
        (0, true) => " (h2c)".to_owned(),
        (1, _) => " (TLS)".to_owned(),
        (several, _) => format!(" (TLS, {several} certificates)"),
    };
    format!("{}{kind}", listener.address)
}

fn upstream_words(upstream: &Upstream) -> String {
    let address = match &upstream.address {
        UpstreamAddress::Demo => "the built-in demo site".to_owned(),
        UpstreamAddress::Unix(path) => format!("unix:{}", path.display()),
        UpstreamAddress::Tcp { host, port, tls } => {
            let scheme = if *tls { "https" } else { "http" };
            if host.contains(':') {
                format!("{scheme}://[{host}]:{port}")
            } else {
                format!("{scheme}://{host}:{port}")
            }
        }
    };
    if upstream.name.contains(':') { address } else { format!("{} = {address}", upstream.name) }
}

fn facilitator_words(settings: &FacilitatorSettings) -> String {
    match settings {
        FacilitatorSettings::Sandbox => "sandbox (built in, moves no money)".to_owned(),
        FacilitatorSettings::Http(http) => {
            let auth = match &http.auth {
                Auth::None => "without authentication".to_owned(),
                Auth::Bearer(_) => "with a bearer token".to_owned(),
                Auth::Header { name, .. } => format!("with the header {name}"),
                Auth::Cdp { .. } => "with a CDP key".to_owned(),
            };
            format!("{} = {} ({auth})", http.name, http.url)
        }
        FacilitatorSettings::Onchain(onchain) => {
            // The configuration was checked, so the key is one.
            let account =
                onchain::key::address(&onchain.key).map_or_else(|_| "?".into(), |key| key.to_string());
            format!("{} = on {} itself, gas paid by {account}", onchain.name, onchain.network.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: Option<&str>) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run(&file, &mut out, &mut err, false).unwrap();
        let shown =
            |bytes| String::from_utf8(bytes).unwrap().replace(&file.display().to_string(), "gateway.toml");
        (status, shown(out), shown(err))
    }

    #[test]
    fn a_fine_file_is_summed_up() {
        let (status, out, err) = check(Some(include_str!("../../gateway.toml")));
        assert_eq!((status, err.as_str()), (FINE, ""));
        assert_eq!(
            out,
            "\
listens on    127.0.0.1:8402
public URL    http://127.0.0.1:8402
admin         127.0.0.1:9402
upstreams     demo = the built-in demo site
facilitators  sandbox (built in, moves no money)

routes
  /articles/*      0.01 USDC on base-sepolia by sandbox   -> demo
  /api/*           0.001 USDC on base-sepolia by sandbox  -> demo
  /events          0.02 USDC on base-sepolia by sandbox   -> demo, settled first
  /download/*      0.05 USDC on base-sepolia by sandbox   -> demo
  everything else  free                                   -> demo
"
        );
    }

    #[test]
    fn errors_are_all_told_and_counted() {
        let (status, out, err) = check(Some("upstream = \"demo\"\nlisten = 1\ncolour = true\n"));
        assert_eq!((status, out.as_str()), (WRONG, ""));
        let last = err.lines().last();
        assert_eq!(last, Some("gateway.toml: 2 errors"), "{err}");
        assert!(
            err.contains("error: listen: expected text in quotes or a list of texts, found a whole number")
        );
        assert!(err.contains(" --> gateway.toml:3:1\n"));
    }

    #[test]
    fn warnings_do_not_fail_a_check() {
        let text = "upstream = \"demo\"\nlisten = \"0.0.0.0:8402\"\n";
        let (status, out, err) = check(Some(text));
        assert_eq!(status, FINE);
        assert!(err.ends_with("gateway.toml: 1 warning\n"), "{err}");
        assert!(out.starts_with("listens on    0.0.0.0:8402\n"), "{out}");
    }

    #[test]
    fn a_file_that_cannot_be_read_has_a_status_of_its_own() {
        let (status, _, err) = check(None);
        assert_eq!(status, UNREADABLE);
        assert!(err.starts_with("error: cannot read gateway.toml: there is no such file\n"), "{err}");
    }
}

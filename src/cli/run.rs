//! `tollgate run`: the gateway.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::RunArguments;
use crate::config::{self, Addresses, Config};
use crate::facilitator::settings::FacilitatorSettings;
use crate::gateway::{ConfigSource, Gateway};
use crate::proxy::settings::UpstreamAddress;
use crate::telemetry;

/// Runs the gateway until it is told to stop. Exit code 1: the configuration is wrong, or the
/// gateway cannot start.
pub(super) fn run(arguments: RunArguments) -> ExitCode {
    let colour = super::wants_colour();
    let RunArguments { config: file, listen, admin } = arguments;
    let addresses = Addresses { listen, admin };
    let (config, warnings) = match config::load_at(&file, &addresses) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{}", mistake.render(colour));
            }
            return ExitCode::FAILURE;
        }
    };
    for warning in warnings {
        eprintln!("{}", warning.render(colour));
    }
    telemetry::log(config.log.json, config.log.level);
    let banner = banner(&config, &file);
    let gateway = match Gateway::build(config, ConfigSource { file, addresses }) {
        Ok(gateway) => gateway,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A closed terminal must not keep the gateway from running.
    let _ = std::io::stderr().write_all(banner.as_bytes());
    gateway.run();
    ExitCode::SUCCESS
}

fn banner(config: &Config, file: &Path) -> String {
    let mut lines = vec![format!("tollgate {} on {}", env!("CARGO_PKG_VERSION"), file.display())];
    for listener in &config.listeners {
        let scheme = if listener.tls.is_empty() { "http" } else { "https" };
        lines.push(format!("  clients    {scheme}://{}", listener.address));
    }
    if let Some(admin) = config.admin {
        lines.push(format!("  operator   http://{admin} (/healthz /readyz /metrics)"));
    }
    for upstream in &config.upstreams {
        lines.push(format!("  upstream   {} = {}", upstream.name, upstream.address));
    }
    for facilitator in &config.facilitators {
        lines.push(match facilitator {
            FacilitatorSettings::Sandbox => {
                "  payments   SANDBOX: really checked, but no money moves".to_owned()
            }
            FacilitatorSettings::Http(settings) => {
                format!("  payments   {} at {}", settings.name, settings.url)
            }
            FacilitatorSettings::Onchain(settings) => {
                format!(
                    "  payments   {} on {}, settled by this gateway",
                    settings.name,
                    settings.network.name()
                )
            }
        });
    }
    if config.shadow.is_some() {
        lines.push("  mode       SHADOW: what is in shadow is neither charged nor refused".to_owned());
    }
    if let Some((_, service)) = &config.facilitator_service {
        lines.push(format!("  service    http://{} (/verify /settle /supported)", service.listen));
    }
    if config.upstreams.iter().any(|upstream| upstream.address == UpstreamAddress::Demo)
        && let Some(listener) = config.listeners.first()
    {
        let url = format!("http://{}/articles/x402", listener.address);
        lines.push("Try:".to_owned());
        lines.push(format!("  curl -i {url}"));
        lines.push(format!("  tollgate pay {url}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

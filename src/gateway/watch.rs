//! When the configuration is read again: at `SIGHUP`, and when a file changes that it rests on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ConfigSource;
use super::reload::Live;
use crate::config::{self, Diagnostic};

/// How often files are looked at. One that is still being written looks otherwise the next time; only what
/// has stayed as it is for so long is read.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Changes of routes that the log names, at most.
const CHANGES_TOLD: usize = 50;

/// What tells that a file is another than before; `None`: there is none.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Reads the configuration again whenever there is reason to, until the process ends.
pub(super) async fn keep_watching(mut live: Live, source: ConfigSource) {
    let mut hangup = signal(SignalKind::hangup()).ok();
    let mut seen = stamps(&source, &live);
    let mut applied = seen.clone();
    loop {
        let is_asked = tokio::select! {
            () = next(&mut hangup) => true,
            () = tokio::time::sleep(LOOK_EVERY) => false,
        };
        let now = stamps(&source, &live);
        let is_settled = std::mem::replace(&mut seen, now.clone()) == now;
        if is_asked || (live.config.watch && is_settled && now != applied) {
            reload(&mut live, &source).await;
            // It may rest on other files from now on; what changed while it was read is to be seen.
            seen = stamps(&source, &live);
            let before = |file: &PathBuf| now.iter().find(|(known, _)| known == file);
            applied = seen.iter().map(|one| before(&one.0).unwrap_or(one).clone()).collect();
        }
    }
}

async fn next(hangup: &mut Option<Signal>) {
    match hangup {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

fn stamps(source: &ConfigSource, live: &Live) -> Vec<(PathBuf, Stamp)> {
    let files = std::iter::once(&source.file).chain(&live.config.files);
    files.map(|file| (file.clone(), stamp(file))).collect()
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

async fn reload(live: &mut Live, source: &ConfigSource) {
    let ConfigSource { file, addresses } = source.clone();
    let loaded = tokio::task::spawn_blocking(move || config::load_at(&file, &addresses)).await;
    let refused = match loaded {
        Ok(Ok((config, warnings))) => {
            if !warnings.is_empty() {
                tracing::warn!("{}", rendered(&warnings));
            }
            live.change_to(config).await.map_err(|error| error.to_string())
        }
        Ok(Err(mistakes)) => Err(rendered(&mistakes)),
        Err(lost) => Err(lost.to_string()),
    };
    let metrics = &live.base.metrics;
    metrics.config_reload(refused.is_ok());
    let file = source.file.display();
    match refused {
        Ok(plan) => {
            metrics.config_loaded(live.base.clock.now().0);
            tracing::info!(%file, %plan, "the configuration was read again");
            for change in plan.changes.iter().take(CHANGES_TOLD) {
                tracing::info!("changed: {change}");
            }
        }
        Err(why) => tracing::error!("{file} was not taken over, and nothing has changed:\n{why}"),
    }
}

fn rendered(diagnostics: &[Diagnostic]) -> String {
    let rendered: Vec<String> = diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    rendered.join("\n")
}

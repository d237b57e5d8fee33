//! Where the books are, and what the configuration knows about what is in them.

use std::path::Path;
use std::sync::Arc;

use super::arguments::Source;
use super::coins::{Coin, Coins};
use super::{Exit, Stop, World};
use crate::config::{self, Config, Severity};
use crate::ledger::settings::{LedgerUrl, TAKEOVER_AFTER};
use crate::ledger::{self, Accounts, Ledger};

/// The configuration that is read when none is named.
const CONFIG_DEFAULT: &str = "gateway.toml";

/// The books of a gateway.
pub(super) struct Books {
    url: LedgerUrl,
    /// How amounts are written.
    pub(super) coins: Coins,
    /// The gateway's configuration; `None` when the ledger was named and there is none.
    pub(super) config: Option<Config>,
}

impl Books {
    /// Finds the books that are meant.
    ///
    /// # Errors
    /// A configuration that cannot be used; what is wrong with it has been written.
    pub(super) fn of(source: &Source, world: &mut World<'_>) -> Result<Self, Stop> {
        let named = source.ledger.as_ref().map(|text| {
            LedgerUrl::parse(text.expose(), Path::new("")).map_err(|error| {
                Stop::Failed(format!(
                    "--ledger {error}: write sqlite://FILE or postgres://USER@HOST/DATABASE"
                ))
            })
        });
        let named = named.transpose()?;
        let config = match (&source.config, &named) {
            (None, Some(_)) if !Path::new(CONFIG_DEFAULT).exists() => None,
            (file, _) => Some(load(file.as_deref().unwrap_or(Path::new(CONFIG_DEFAULT)), world)?),
        };
        let url = match (named, &config) {
            (Some(url), _) => url,
            (None, Some(config)) => config.ledger.url.clone(),
            (None, None) => return Err(Stop::Failed("no ledger is named".to_owned())),
        };
        let coins = config.as_ref().map(coins_of).unwrap_or_default();
        Ok(Self { url, coins, config })
    }

    /// Opens them for reading, also beside a running gateway.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub(super) async fn read(&self) -> Result<Arc<dyn Accounts>, Stop> {
        ledger::read(&self.url).await.map_err(|error| Stop::Failed(error.to_string()))
    }

    /// Opens them for writing, as a gateway does.
    ///
    /// # Errors
    /// Why they cannot be written: with `SQLite`, also because a gateway runs.
    pub(super) async fn open(&self) -> Result<Arc<dyn Ledger>, Stop> {
        ledger::open(&self.url, TAKEOVER_AFTER).await.map_err(|error| match self.url {
            LedgerUrl::Sqlite(_) => Stop::Failed(format!(
                "nothing was changed: {error}. A ledger in a file is changed by one program at a time; if its \
                 gateway runs, stop it first"
            )),
            LedgerUrl::Memory | LedgerUrl::Postgres(_) => Stop::Failed(format!("nothing was changed: {error}")),
        })
    }
}

/// Loads a configuration; its errors are written, its warnings are the gateway's business.
fn load(file: &Path, world: &mut World<'_>) -> Result<Config, Stop> {
    config::load(file).map(|(config, _)| config).or_else(|diagnostics| {
        for error in diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error) {
            writeln!(world.err, "{}", error.render(world.colour))?;
        }
        Err(Stop::Said(Exit::Failed))
    })
}

/// The assets a configuration knows: declared ones, and those of its offers.
fn coins_of(config: &Config) -> Coins {
    let mut coins = Coins::default();
    for asset in &config.assets {
        coins.add(&asset.network, &asset.address, Coin::from(asset));
    }
    for accept in config.routes.all().filter_map(|route| route.offer()).flat_map(|offer| &offer.accepts) {
        let terms = &accept.requirements;
        let coin = Coin { symbol: accept.symbol.clone(), decimals: accept.decimals };
        coins.add(&terms.network, &terms.asset, coin);
    }
    coins
}

//! The options that all subcommands share.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::service::logging;
use crate::config::{Loaded, Loader, LogLevel};

/// The options that all subcommands share.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Configuration file, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// URL of Redis: redis://, rediss://, redis+unix://, redis-sentinel://, redis-cluster:// or
    /// embedded://
    #[arg(long, value_name = "URL")]
    pub(super) redis_url: Option<String>,
    /// Log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}

impl Common {
    /// The configuration layers that all subcommands share; more flags may be added.
    pub(super) fn loader(&self) -> Loader {
        let mut loader = Loader::new().file(self.config.clone()).process_environment();
        if let Some(url) = &self.redis_url {
            loader = loader.flag("redis_queue.url", url);
        }
        if let Some(level) = &self.log_level {
            loader = loader.flag("log.level", level);
        }
        loader
    }

    /// Loads the configuration and starts logging accordingly.
    pub(super) fn load(&self, loader: Loader) -> Result<Loaded, Failure> {
        let loaded = loader.load()?;
        logging::start(&loaded.config.log);
        for note in &loaded.notes {
            tracing::info!("{note}");
        }
        Ok(loaded)
    }

    /// Logs only warnings unless a level was requested, for commands whose own output matters more
    /// than the log.
    pub(super) fn quiet(&self, loader: Loader) -> Loader {
        let asked = self.log_level.is_some() || std::env::var_os("LOG__LEVEL").is_some();
        if asked { loader } else { loader.flag("log.level", LogLevel::Warn.to_string()) }
    }
}

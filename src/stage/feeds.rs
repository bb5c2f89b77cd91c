//! The states of the configured cameras, as `ingest` writes them to Redis.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use redis::cmd;
use serde_json::Value;

use crate::base::Fault;
use crate::metrics::clock::{Tick, unix_seconds};
use crate::redis::Control;

/// How often Redis is asked.
const PERIOD: Duration = Duration::from_secs(2);

/// The cameras of the configuration that have a source, and what `ingest` wrote about them.
#[derive(Debug, Default)]
pub struct Feeds {
    key: String,
    configured: Mutex<Vec<String>>,
    told: Mutex<HashMap<String, Value>>,
    asked: Mutex<Option<Tick>>,
}

impl Feeds {
    /// Cameras whose states are stored under `key`.
    pub fn new(key: String, configured: Vec<String>) -> Feeds {
        Feeds { key, configured: Mutex::new(configured), ..Feeds::default() }
    }

    /// Replaces the configured cameras.
    pub fn configure(&self, cameras: Vec<String>) {
        *self.configured.lock() = cameras;
    }

    /// The configured cameras.
    pub fn configured(&self) -> Vec<String> {
        self.configured.lock().clone()
    }

    /// The state of a camera that `ingest` wrote; `None` if it has expired.
    pub fn of(&self, camera: &str) -> Option<Value> {
        let told = self.told.lock().get(camera).cloned()?;
        (told["until"].as_f64()? > unix_seconds()).then_some(told)
    }

    /// Asks Redis, if the period is over.
    pub(super) fn look(&self, control: &mut Control) -> Result<(), Fault> {
        let is_recent = self.asked.lock().is_some_and(|asked| asked.elapsed() < PERIOD);
        if is_recent || self.configured.lock().is_empty() {
            return Ok(());
        }
        *self.asked.lock() = Some(Tick::now());
        let key = &self.key;
        let all: HashMap<String, String> =
            control.run_on(key, "HGETALL", cmd("HGETALL").arg(key))?;
        let told = all
            .into_iter()
            .filter_map(|(camera, text)| Some((camera, serde_json::from_str(&text).ok()?)));
        *self.told.lock() = told.collect();
        Ok(())
    }
}

//! Publishes the states of the cameras to Redis, so that the engine can show them.

use std::time::Duration;

use redis::cmd;

use super::supervisor::IngestView;
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::config::Config;
use crate::metrics::clock::unix_seconds;
use crate::redis::{Control, Topology, status_key};

/// How often states are published.
const PERIOD: Duration = Duration::from_secs(2);
/// Lifetime of a published state, in seconds.
const LIFE_SECONDS: u64 = 15;

/// Publishes states until it is ended.
#[derive(Debug)]
pub struct StatePublisher {
    ended: Stop,
    thread: Option<Running>,
}

impl StatePublisher {
    /// Starts the thread.
    ///
    /// [`Fault::Io`] if no thread can be started.
    pub fn start(
        config: &Config,
        topology: Topology,
        view: IngestView,
        stop: &Stop,
    ) -> Result<StatePublisher, Fault> {
        let ended = Stop::default();
        let end = ended.clone();
        let key = status_key(&config.redis_queue.input_queue);
        let timeout = Duration::from_secs(config.redis_queue.timeout.min(5));
        let identity = Identity { role: Role::Watch, index: 0, core: None };
        let thread = threads::spawn(identity, stop, move || {
            threads::step_back();
            let mut control = Control::new(topology, timeout);
            let mut told = Vec::new();
            while !end.sleep(PERIOD) {
                // Without permission or server, the engine's page lacks the camera states; nothing
                // else changes.
                if let Err(fault) = tell(&mut control, &key, &view, &mut told) {
                    tracing::debug!("cannot publish the states of the cameras: {fault}");
                }
            }
            let _ = forget(&mut control, &key, &told);
            Ok(())
        })?;
        Ok(StatePublisher { ended, thread: Some(thread) })
    }

    /// Ends the thread and deletes the published states.
    pub fn end(mut self) {
        self.ended.drain();
        drop(self.thread.take());
    }
}

impl Drop for StatePublisher {
    fn drop(&mut self) {
        self.ended.drain();
    }
}

fn tell(
    control: &mut Control,
    key: &str,
    view: &IngestView,
    told: &mut Vec<String>,
) -> Result<(), Fault> {
    let cameras = view.cameras();
    let ids: Vec<String> = cameras.iter().map(|camera| camera.id.clone()).collect();
    let gone: Vec<String> = told.iter().filter(|id| !ids.contains(id)).cloned().collect();
    forget(control, key, &gone)?;
    *told = ids;
    if cameras.is_empty() {
        return Ok(());
    }
    let mut command = cmd("HSET");
    command.arg(key);
    for camera in &cameras {
        let mut json = camera.json();
        json["until"] = (unix_seconds() + LIFE_SECONDS as f64).into();
        command.arg(&camera.id).arg(json.to_string());
    }
    control.run_on::<u64>(key, "HSET", &command)?;
    control.run_on::<u64>(key, "EXPIRE", cmd("EXPIRE").arg(key).arg(LIFE_SECONDS))?;
    Ok(())
}

fn forget(control: &mut Control, key: &str, ids: &[String]) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    control.run_on::<u64>(key, "HDEL", cmd("HDEL").arg(key).arg(ids)).map(|_| ())
}

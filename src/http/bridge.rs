//! The statistics server of `bridge`: the state of one direction.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use serde_json::json;
use tiny_http::Request;

use super::routes::{HttpAnswer, Site, not_found};
use super::{Listener, Serving};
use crate::base::{Fault, Stop};
use crate::bridge::{BridgeSeries, BridgeStatus, Direction, SERIES};
use crate::config::Config;

/// A running statistics server of `bridge`; dropping it ends it.
#[derive(Debug)]
pub struct BridgeServer {
    _serving: Option<Serving>,
}

impl BridgeServer {
    /// Serves at the address of the direction in `kafka.stats`, with the token and the host names
    /// of `stats`.
    ///
    /// [`Fault::Io`] if the address is not available.
    pub fn start(
        config: &Config,
        status: &Arc<BridgeStatus>,
        stop: &Stop,
    ) -> Result<BridgeServer, Fault> {
        let addr = match status.direction {
            Direction::KafkaToRedis => &config.kafka.stats.kafka_to_redis,
            Direction::RedisToKafka => &config.kafka.stats.redis_to_kafka,
        };
        let Some(addr) = addr else { return Ok(BridgeServer { _serving: None }) };
        let listener = Listener::bind(addr)?.with_hosts(&config.stats.hosts);
        tracing::info!("statistics of the bridge on http://{}", listener.addr());
        let site = Box::new(BridgeSite { status: Arc::clone(status) });
        let token = config.stats.token.clone();
        let serving = listener.serve_site(site, Arc::new(OnceLock::new()), token, stop)?;
        Ok(BridgeServer { _serving: Some(serving) })
    }
}

struct BridgeSite {
    status: Arc<BridgeStatus>,
}

impl Site for BridgeSite {
    fn open(&self, segments: &[&str]) -> Option<HttpAnswer> {
        let or_ok = |why: Option<String>| match why {
            Some(why) => HttpAnswer::lines(503, [why]),
            None => HttpAnswer::lines(200, ["ok".to_owned()]),
        };
        match *segments {
            ["livez"] => Some(or_ok(self.status.hangs())),
            ["readyz"] => Some(or_ok(self.status.unready())),
            _ => None,
        }
    }

    fn guarded(&self, _request: &Request, segments: &[&str]) -> HttpAnswer {
        match *segments {
            [""] => HttpAnswer::lines(200, [self.status.summary()]),
            ["metrics"] => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                HttpAnswer::new(200, kind, exposition(&self.status))
            }
            ["api", "v1", "bridge"] => {
                let status = &self.status;
                HttpAnswer::json(&json!({
                    "direction": status.direction.name(),
                    "messages": status.messages(),
                    "bytes": status.bytes(),
                    "refused": status.refused(),
                    "fenced": status.fenced(),
                    "lost": status.lost(),
                    "lag": status.lag(),
                    "paused": status.is_paused(),
                    "problem": status.problem(),
                }))
            }
            _ => not_found(),
        }
    }
}

/// The series of a direction in Prometheus' text format.
fn exposition(status: &BridgeStatus) -> String {
    let mut page = String::new();
    let direction = status.direction.name();
    for BridgeSeries { name, kind, help, value } in SERIES {
        if let Some(value) = value(status) {
            let _ = writeln!(
                page,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{direction=\"{direction}\"}} {value}"
            );
        }
    }
    page
}

//! Asks a running engine for its statistics.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;

use super::failure::Failure;
use crate::base::redact;
use crate::config::Secret;

/// Maximum wait for one answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Maximum size of an answer in bytes; enough for thousands of cameras.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The statistics, or the reason why there are none.
pub(super) type ApiAnswer = Result<Figures, String>;

/// One snapshot of an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Why it is not ready; `None` if it is.
    pub(super) unready: Option<String>,
    /// `/api/v1/system/metrics`.
    pub(super) metrics: Value,
    /// `/api/v1/cameras`.
    pub(super) cameras: Vec<Value>,
}

/// A client of one engine's statistics server.
pub(super) struct Client {
    agent: Agent,
    url: String,
    /// The URL without secrets, for display.
    shown: String,
    token: Option<Secret>,
}

impl Client {
    pub(super) fn new(url: &str, token: Option<Secret>) -> Result<Client, Failure> {
        let url = url.trim_end_matches('/');
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        if !url.starts_with("http://") {
            let text = "--url: valid: http://HOST:PORT; for an engine elsewhere use a tunnel, as in \
                        ssh -L 8080:127.0.0.1:8080 HOST";
            return Err(Failure::Usage(text.into()));
        }
        let agent = Agent::config_builder()
            .timeout_global(Some(LIMIT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .into();
        let shown = redact::text(&url);
        Ok(Client { agent, url, shown, token })
    }

    /// The URL for display.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn ask(&self) -> ApiAnswer {
        let (status, why) = self.get("/readyz")?;
        let unready = (status != 200).then(|| why.trim().to_owned());
        let metrics = self.json("/api/v1/system/metrics")?;
        let mut cameras = self.json("/api/v1/cameras")?;
        let cameras = match cameras.get_mut("cameras").map(Value::take) {
            Some(Value::Array(cameras)) => cameras,
            _ => Vec::new(),
        };
        Ok(Figures { unready, metrics, cameras })
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        match self.get(path)? {
            (200, text) => serde_json::from_str(&text)
                .map_err(|error| format!("{}{path}: no JSON: {error}", self.shown)),
            (401, _) => {
                Err(format!("{} needs a token: --token-file FILE, or STATS__TOKEN", self.shown))
            }
            (status, _) => {
                Err(format!("{}{path}: status {status}; is this Framepress?", self.shown))
            }
        }
    }

    /// Status and body of the response to a path.
    pub(super) fn get(&self, path: &str) -> Result<(u16, String), String> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {}", token.expose()));
        }
        let gone = |error: ureq::Error| {
            let error = redact::said(&error.to_string(), &self.url);
            format!("no answer from {}: {error}", self.shown)
        };
        let mut response = request.call().map_err(gone)?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        Ok((response.status().as_u16(), body.map_err(gone)?))
    }
}

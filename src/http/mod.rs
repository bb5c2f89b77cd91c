//! Floor 6: the statistics server, tiny_http on one thread. It only reads.

mod api;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::net::sockopt::Timeout;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::config::{HostPort, Secret};
use crate::engine::{Plan, View};

pub use api::{compression_ratio, latency_json, metrics_json};

/// How often the server looks at the stop signal.
const TICK: Duration = Duration::from_millis(100);

/// Without a sign of life from any part for this long beyond the time-out for Redis, the engine
/// does not count as alive. A part may be silent for one attempt to connect.
const SILENCE_MARGIN: Duration = Duration::from_secs(10);

/// How long an engine that is well may give no sign of life.
pub fn silence_max(plan: &Plan) -> Duration {
    plan.timeout + SILENCE_MARGIN
}

/// Longest a client may take to accept an answer.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// A bound address, not served yet: so that a port that is taken is noticed before the engine
/// starts.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// [`Fault::Io`] that names the address.
    pub fn bind(addr: &HostPort) -> Result<Listener, Fault> {
        let failed =
            |source| Fault::io(format!("the stats server cannot listen on {addr}"), source);
        let tcp = TcpListener::bind((addr.host.as_str(), addr.port)).map_err(failed)?;
        // Connections inherit it; without it a client that does not read would hold the server.
        let limit = Some(SEND_LIMIT);
        rustix::net::sockopt::set_socket_timeout(&tcp, Timeout::Send, limit)
            .map_err(|errno| failed(errno.into()))?;
        let addr = tcp.local_addr().map_err(failed)?;
        Ok(Listener { tcp, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the returned server is ended or dropped.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the server cannot be set up.
    pub fn serve(self, view: View, token: Option<Secret>, stop: &Stop) -> Result<Serving, Fault> {
        if token.is_none() && !self.addr.ip().is_loopback() {
            tracing::warn!(
                "the stats server listens on {} without a token: anybody who can reach it can read it",
                self.addr
            );
        }
        let server = Server::from_listener(self.tcp, None)
            .map_err(|error| Fault::Unusable(format!("stats server: {error}")))?;
        let identity = Identity { role: Role::Stats, index: 0, core: None };
        let ended = Stop::default();
        let end = ended.clone();
        let thread = threads::spawn(identity, stop, move || {
            while !end.is_draining() {
                match server.recv_timeout(TICK) {
                    Ok(Some(request)) => answer(request, &view, token.as_ref()),
                    Ok(None) => {}
                    Err(source) => return Err(Fault::io("stats server", source)),
                }
            }
            Ok(())
        })?;
        Ok(Serving { ended, thread: Some(thread) })
    }
}

/// A running server; ended on drop.
#[derive(Debug)]
pub struct Serving {
    ended: Stop,
    thread: Option<Running>,
}

impl Serving {
    /// Ends the server.
    ///
    /// # Errors
    /// What it ended with, if it had ended by itself.
    pub fn end(mut self) -> Result<(), Fault> {
        self.ended.drain();
        self.thread.take().map_or(Ok(()), Running::join)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Before the thread is joined.
        self.ended.drain();
    }
}

fn answer(request: Request, view: &View, token: Option<&Secret>) {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let (status, kind, body) = match request.method() {
        Method::Get | Method::Head => route(&path, &request, view, token),
        _ => (405, TEXT, "only GET is answered here\n".to_owned()),
    };
    let mut response = Response::from_string(body).with_status_code(status);
    for (name, value) in [
        ("Content-Type", kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    // A client that has gone away is no fault of ours.
    let _ = request.respond(response);
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

const INDEX: &str = "framepress\n\n/api/v1/system/metrics\n/api/v1/cameras\n/livez\n/readyz\n";

fn route(
    path: &str,
    request: &Request,
    view: &View,
    token: Option<&Secret>,
) -> (u16, &'static str, String) {
    match path {
        "/livez" => match view.metrics.health.silence() {
            silence if silence > silence_max(&view.plan) => {
                (503, TEXT, format!("no sign of life for {} s\n", silence.as_secs()))
            }
            _ => (200, TEXT, "ok\n".into()),
        },
        "/readyz" => {
            let account = view.metrics.ledger.read();
            match view.metrics.health.unready() {
                Some(why) => (503, TEXT, format!("{why}\n")),
                None if !account.balanced => (503, TEXT, "frames are unaccounted for\n".into()),
                None => (200, TEXT, "ok\n".into()),
            }
        }
        _ if !is_allowed(request, token) => (401, TEXT, "a bearer token is needed\n".into()),
        "/" => (200, TEXT, INDEX.into()),
        "/api/v1/system/metrics" => (200, JSON, api::metrics_json(view).to_string()),
        "/api/v1/cameras" => (200, JSON, api::cameras_json(view).to_string()),
        _ => {
            match path.strip_prefix("/api/v1/cameras/").and_then(|id| api::camera_json(view, id)) {
                Some(camera) => (200, JSON, camera.to_string()),
                None => (404, TEXT, "not found\n".into()),
            }
        }
    }
}

fn is_allowed(request: &Request, token: Option<&Secret>) -> bool {
    let Some(token) = token else { return true };
    request
        .headers()
        .iter()
        .find(|header| header.field.equiv("Authorization"))
        .and_then(|header| header.value.as_str().strip_prefix("Bearer "))
        .is_some_and(|given| {
            constant_time_eq::constant_time_eq(given.as_bytes(), token.expose().as_bytes())
        })
}

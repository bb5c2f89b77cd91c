//! Floor 6: the statistics server: figures, the dashboard, pictures. It is read-only.
//!
//! A request passes three parts: the gate, which no client can block or fill; tiny_http, which
//! parses requests; and the routes, which answer them. The server's threads run at lower priority
//! than the pipeline, leave it the file descriptors it needs, and do not end it if they panic.

mod api;
#[cfg(feature = "kafka")]
mod bridge;
mod exposition;
mod gate;
mod head;
mod hosts;
mod ingest;
mod inner;
mod routes;
mod visit;

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tiny_http::{Request, Server};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, descriptors};
use crate::config::{HostPort, Secret};
use crate::engine::EngineView;

pub use api::{compression_ratio, latency_json, metrics_json};
#[cfg(feature = "kafka")]
pub use bridge::BridgeServer;
use gate::ClientGate;
use hosts::Hosts;
pub use ingest::IngestServer;
use inner::Inner;
pub use routes::silence_max;
use routes::{EngineSite, HttpAnswer, HttpRoutes, Site};

/// How often the server checks the stop signal; ending the server also unblocks it.
const TICK: Duration = Duration::from_secs(10);

/// A bound address that is not served yet, so that an occupied port is noticed before the engine
/// starts.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    addr: SocketAddr,
    hosts: Vec<String>,
    kept: u64,
}

/// File descriptors reserved for the rest of the process unless [`Listener::leaving`] sets another
/// number: the connections of an engine with default settings, and [`KEPT_BESIDE`].
const KEPT: u64 = 20 + KEPT_BESIDE;

/// File descriptors that a process needs besides its connections to Redis: standard streams,
/// signals, both listeners, the service manager, files being reloaded, name look-ups, and the
/// overlapping connections to an old and a new server during a failover.
const KEPT_BESIDE: u64 = 24;

impl Listener {
    /// Binds the address.
    ///
    /// [`Fault::Io`], which names the address.
    pub fn bind(addr: &HostPort) -> Result<Listener, Fault> {
        let failed =
            |source| Fault::io(format!("the stats server cannot listen on {addr}"), source);
        let tcp = TcpListener::bind((addr.host.as_str(), addr.port)).map_err(failed)?;
        tcp.set_nonblocking(true).map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        Ok(Listener { tcp, addr, hosts: Vec::new(), kept: KEPT })
    }

    /// Also accepts these host names in requests, besides addresses and `localhost`.
    #[must_use]
    pub fn with_hosts(self, hosts: &[String]) -> Listener {
        Listener { hosts: hosts.to_vec(), ..self }
    }

    /// Reserves the file descriptors of an engine with `connections` connections to Redis.
    #[must_use]
    pub fn leaving(self, connections: usize) -> Listener {
        Listener { kept: KEPT_BESIDE.saturating_add(connections as u64), ..self }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves an engine until the returned server is ended or dropped.
    ///
    /// # Errors
    /// [`Fault::Io`] if the server cannot be set up.
    pub fn serve(
        self,
        view: EngineView,
        token: Option<Secret>,
        stop: &Stop,
    ) -> Result<Serving, Fault> {
        let serving = self.serve_before_start(token, stop)?;
        serving.show(view);
        Ok(serving)
    }

    /// Serves before the engine exists, because the engine may have to wait for Redis. Until
    /// [`Serving::show`] provides the engine, the server reports alive and not ready.
    ///
    /// # Errors
    /// [`Fault::Io`] if the server cannot be set up.
    pub fn serve_before_start(self, token: Option<Secret>, stop: &Stop) -> Result<Serving, Fault> {
        let view = Arc::new(OnceLock::new());
        self.serve_site(Box::new(EngineSite { view: Arc::clone(&view) }), view, token, stop)
    }

    fn serve_site(
        self,
        site: Box<dyn Site>,
        view: Arc<OnceLock<EngineView>>,
        token: Option<Secret>,
        stop: &Stop,
    ) -> Result<Serving, Fault> {
        if token.is_none() && !self.addr.ip().is_loopback() {
            tracing::warn!(
                "the stats server listens on {} without a token: anybody who can reach it can \
                 read its figures and see pictures of the cameras; set stats.token",
                self.addr
            );
        }
        let visits_max = gate::visits_max(descriptors::raise(), self.kept);
        if visits_max < gate::VISITS_MAX {
            tracing::info!(
                "the stats server accepts only {visits_max} connections at a time, because the \
                 limit of open files is {}; raise it with ulimit -n or LimitNOFILE=",
                descriptors::limit_now()
            );
        }
        let failed = |source| Fault::io("the stats server cannot make its socket", source);
        let (door, inner) = Inner::bind().map_err(failed)?;
        let server = Server::from_listener(inner, None)
            .map_err(|error| Fault::Unusable(format!("stats server: {error}")))?;
        let server = Arc::new(server);
        let ended = Stop::default();
        let identity = |index| Identity { role: Role::Stats, index, core: None };
        let gate = ClientGate { listener: self.tcp, server: door, visits_max };
        let routes = HttpRoutes::new(site, token, Hosts::new(&self.hosts));
        // A panic ends these threads, and with them the statistics, but not the engine: they raise
        // a separate stop signal.
        let (spare, end) = (Stop::default(), ended.clone());
        let requests = Arc::clone(&server);
        let answers = threads::spawn(identity(1), &spare, move || {
            threads::step_back();
            answer_all(&requests, |request| routes.answer(request), &end)
        })?;
        let end = ended.clone();
        let gate = threads::spawn(identity(0), &spare, move || {
            threads::step_back();
            gate.run(&end)
        });
        // Stop the answering thread on an error; it would otherwise run until the process ends.
        let gate = gate.inspect_err(|_| {
            ended.drain();
            server.unblock();
            stop.now();
        })?;
        Ok(Serving { view, ended, server, threads: vec![gate, answers] })
    }
}

/// A running server; dropping it ends it.
pub struct Serving {
    view: Arc<OnceLock<EngineView>>,
    ended: Stop,
    server: Arc<Server>,
    threads: Vec<Running>,
}

impl Serving {
    /// Provides the engine to show. Later calls have no effect.
    pub fn show(&self, view: EngineView) {
        let _ = self.view.set(view);
    }

    /// Ends the server.
    ///
    /// The error with which the server ended by itself.
    pub fn end(mut self) -> Result<(), Fault> {
        self.leave();
        let ends: Vec<_> = self.threads.drain(..).map(Running::join).collect();
        ends.into_iter().collect()
    }
}

impl Serving {
    fn leave(&self) {
        self.ended.drain();
        self.server.unblock();
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("threads", &self.threads).finish_non_exhaustive()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Tell the threads to end before they are joined.
        self.leave();
    }
}

/// Answers requests until `end`. The caller must then unblock the server.
fn answer_all(
    server: &Server,
    answer: impl Fn(&Request) -> HttpAnswer,
    end: &Stop,
) -> Result<(), Fault> {
    while !end.is_draining() {
        match server.recv_timeout(TICK) {
            Ok(Some(request)) => respond(request, &answer),
            Ok(None) => {}
            Err(source) => return Err(Fault::io("stats server", source)),
        }
    }
    Ok(())
}

/// Answers one request. A panic affects only that answer.
fn respond(request: Request, answer: impl Fn(&Request) -> HttpAnswer) {
    // The request must outlive a panic. Dropping it sends an answer, and a second panic there would
    // abort the process.
    let answer = catch_unwind(AssertUnwindSafe(|| answer(&request))).unwrap_or_else(|payload| {
        report(&*payload);
        HttpAnswer::error(500, "an internal error of the program; see its log")
    });
    // A client that disconnected is not an error.
    let sent = catch_unwind(AssertUnwindSafe(|| drop(request.respond(answer.into_response()))));
    if let Err(payload) = sent {
        report(&*payload);
    }
}

fn report(payload: &(dyn std::any::Any + Send)) {
    tracing::error!(
        "the stats server failed to answer a request: {}; please report this",
        threads::panic_message(payload)
    );
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_panic_costs_that_answer_only() {
        let (door, inner) = Inner::bind().unwrap();
        let server = Server::from_listener(inner, None).unwrap();
        let end = Stop::default();
        let ask = |path: &str| {
            let mut client = door.connect().unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| {
                let answer = |request: &Request| match request.url() {
                    "/panic" => panic!("the wheel came off"),
                    _ => HttpAnswer::error(404, "all is well"),
                };
                answer_all(&server, answer, &end)
            });
            for _ in 0..3 {
                let answer = ask("/panic");
                assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
                assert!(!answer.contains("wheel"), "{answer}");
                assert!(ask("/").contains("all is well"));
            }
            end.drain();
            server.unblock();
            answers.join().unwrap().unwrap();
        });
    }
}

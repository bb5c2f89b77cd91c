//! Floor 6: the statistics server: figures, the dashboard, pictures. It only reads.
//!
//! Three parts, one behind the other: the gate, which no client can hold up or fill; tiny_http,
//! which understands requests; and the routes, which answer them. All of it steps back behind the
//! threads that work on frames.

mod api;
mod exposition;
mod gate;
mod head;
mod routes;
mod visit;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use tiny_http::{Request, Server};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::config::{HostPort, Secret};
use crate::engine::View;

pub use api::{compression_ratio, latency_json, metrics_json};
use gate::Gate;
use routes::Routes;
pub use routes::silence_max;

/// How often the server looks at the stop signal.
const TICK: Duration = Duration::from_millis(100);

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
        tcp.set_nonblocking(true).map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        Ok(Listener { tcp, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves an engine until the returned server is ended or dropped.
    ///
    /// # Errors
    /// [`Fault::Io`] if the server cannot be set up.
    pub fn serve(self, view: View, token: Option<Secret>, stop: &Stop) -> Result<Serving, Fault> {
        let serving = self.serve_before_start(token, stop)?;
        serving.show(view);
        Ok(serving)
    }

    /// Serves before there is an engine, for it may have to wait for Redis: alive, and not ready.
    /// [`Serving::show`] brings the engine.
    ///
    /// # Errors
    /// [`Fault::Io`] if the server cannot be set up.
    pub fn serve_before_start(self, token: Option<Secret>, stop: &Stop) -> Result<Serving, Fault> {
        if token.is_none() && !self.addr.ip().is_loopback() {
            tracing::warn!(
                "the stats server listens on {} without a token: anybody who can reach it can \
                 read its figures and see pictures of the cameras; set stats.token",
                self.addr
            );
        }
        let (folder, inner) = private_socket()?;
        let ended = Stop::default();
        let identity = |index| Identity { role: Role::Stats, index, core: None };
        let gate = Gate { listener: self.tcp, server: socket_in(folder.path()) };
        let view = Arc::new(OnceLock::new());
        let routes = Routes::new(Arc::clone(&view), token);
        let end = ended.clone();
        let answers = threads::spawn(identity(1), stop, move || {
            threads::step_back();
            answer_all(inner, &routes, &end)
        })?;
        let end = ended.clone();
        let gate = threads::spawn(identity(0), stop, move || {
            threads::step_back();
            gate.run(&end)
        })?;
        Ok(Serving { view, ended, threads: vec![gate, answers], _folder: folder })
    }
}

/// A running server; ended on drop.
#[derive(Debug)]
pub struct Serving {
    view: Arc<OnceLock<View>>,
    ended: Stop,
    threads: Vec<Running>,
    /// Holds the socket between the gate and the server.
    _folder: TempDir,
}

impl Serving {
    /// From now on there is an engine to show; it remains the one that is shown.
    pub fn show(&self, view: View) {
        let _ = self.view.set(view);
    }

    /// Ends the server.
    ///
    /// # Errors
    /// What it ended with, if it had ended by itself.
    pub fn end(mut self) -> Result<(), Fault> {
        self.ended.drain();
        let ends: Vec<_> = self.threads.drain(..).map(Running::join).collect();
        ends.into_iter().collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Before the threads are joined.
        self.ended.drain();
    }
}

/// A socket that only this user can reach.
fn private_socket() -> Result<(TempDir, UnixListener), Fault> {
    let failed = |source| Fault::io("the stats server cannot make its socket", source);
    let make = |parent: &Path| {
        let folder = tempfile::Builder::new().prefix("framepress-stats-").tempdir_in(parent)?;
        let listener = UnixListener::bind(socket_in(folder.path()))?;
        Ok((folder, listener))
    };
    // Where the file system is read-only, or its path too long for a socket, memory will do.
    make(&std::env::temp_dir())
        .or_else(|error| make(Path::new("/dev/shm")).map_err(|_| error))
        .map_err(failed)
}

fn socket_in(folder: &Path) -> std::path::PathBuf {
    folder.join("http")
}

fn answer_all(inner: UnixListener, routes: &Routes, end: &Stop) -> Result<(), Fault> {
    let server = Server::from_listener(inner, None)
        .map_err(|error| Fault::Unusable(format!("stats server: {error}")))?;
    while !end.is_draining() {
        match server.recv_timeout(TICK) {
            Ok(Some(request)) => respond(request, routes),
            Ok(None) => {}
            Err(source) => return Err(Fault::io("stats server", source)),
        }
    }
    Ok(())
}

fn respond(request: Request, routes: &Routes) {
    let response = routes.answer(&request).into_response();
    // A client that has gone away is no fault of ours.
    let _ = request.respond(response);
}

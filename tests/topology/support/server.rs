//! A redis-server, or another program that answers PING, as a process.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use framepress::internals::redis::Embedded;
use redis::{Connection, FromRedisValue, cmd};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Certificates, LONG};

/// A server on a free loopback port with a temporary folder. Dropping the value ends both.
pub struct Server {
    child: Child,
    /// A plain port, which the tests use.
    pub port: u16,
    /// The encrypted port, if there is one.
    tls_port: Option<u16>,
    /// Declared after the child, so dropped last.
    _folder: TempDir,
}

impl Server {
    /// A server with further options.
    pub fn start(options: &[&str]) -> Server {
        Server::run(|port, folder| {
            let mut command = Command::new(Embedded::program());
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
            command.args(["--daemonize", "no", "--dir"]).arg(folder).args(options);
            command
        })
    }

    /// A server with further options and an additional encrypted port.
    pub fn encrypted(certificates: &Certificates, options: &[&str]) -> Server {
        Server::run_encrypted(|port, tls_port, folder| {
            let mut command = Command::new(Embedded::program());
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
            command.args(["--daemonize", "no", "--tls-port", &tls_port.to_string()]);
            for (name, value) in certificates.server_settings() {
                command.arg(format!("--{name}")).arg(value);
            }
            command.arg("--dir").arg(folder).args(options);
            command
        })
    }

    /// Whether the server program is built with TLS; prints a message if not.
    pub fn knows_tls() -> bool {
        // Without a certificate the server exits at once in any case, and says what is missing.
        let options = ["--port", "0", "--tls-port", &free_port().to_string()];
        let output = Command::new(Embedded::program()).args(options).output();
        let output = output.expect("redis-server is needed; apt-get install redis-server");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let knows = said.contains("tls-cert-file");
        if !knows {
            eprintln!("skipped: {} has no TLS", Embedded::program().display());
        }
        knows
    }

    /// Runs `command` with two free ports, the second for TLS, and an empty folder.
    pub fn run_encrypted(command: impl Fn(u16, u16, &Path) -> Command) -> Server {
        let tls_port = std::cell::Cell::new(0);
        let mut server = Server::run(|port, folder| {
            tls_port.set(free_port());
            command(port, tls_port.get(), folder)
        });
        server.tls_port = Some(tls_port.get());
        server
    }

    /// The port for clients other than the tests: the encrypted one, if there is one.
    pub fn deployed_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// Runs `command` with a free port and an empty folder.
    pub fn run(command: impl Fn(u16, &Path) -> Command) -> Server {
        // Another process may take the port between `free_port` and the server's start.
        for _ in 0..10 {
            let folder = tempfile::Builder::new().prefix("framepress-topology-").tempdir().unwrap();
            let port = free_port();
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            let child = command(port, folder.path())
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-server is needed by these tests; apt-get install redis-server");
            let mut server = Server { child, port, tls_port: None, _folder: folder };
            if server.comes_up() {
                return server;
            }
        }
        panic!("redis-server does not start; on Debian: apt-get install redis-server");
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Silences the server as a power cut does: nothing is reset, and nothing is answered.
    pub fn silence(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    /// Resumes the silenced server.
    pub fn wake(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    pub fn connect(&self) -> Connection {
        self.try_connect().expect("the server of this test answers")
    }

    pub fn try_connect(&self) -> redis::RedisResult<Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(connection)
    }

    /// Runs one command on a new connection.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).expect("the server of this test does as it is told")
    }

    /// The same for a server that Sentinels may be making a replica, which disconnects its clients.
    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut self.try_connect()?)
    }

    fn comes_up(&mut self) -> bool {
        let began = Tick::now();
        while began.elapsed() < LONG {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            let mut info = cmd("INFO");
            info.arg("server");
            match self.try_connect().and_then(|mut c| info.query::<String>(&mut c)) {
                // Another test's server may have taken the port before.
                Ok(told) => return told.contains(&format!("process_id:{}\r\n", self.child.id())),
                // A server that requires a password is up as well.
                Err(error) if error.code() == Some("NOAUTH") => return true,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A loopback port on which no process listens at present, nor on the port 10,000 above it, where
/// Cluster nodes talk to each other.
pub fn free_port() -> u16 {
    for _ in 0..100 {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let bus = port.checked_add(10_000);
        if bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok()) {
            return port;
        }
    }
    panic!("no free ports");
}

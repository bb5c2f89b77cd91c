//! A primary, two replicas and three Sentinels.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use framepress::internals::redis::Embedded;
use redis::Connection;

use super::{Certificates, Server, wait_until};

/// The Sentinels' name of the primary.
pub const SERVICE: &str = "cabinet";

/// Time after which a silent primary counts as down, in milliseconds.
pub const DOWN_AFTER_MS: u64 = 500;

/// The whole deployment.
pub struct Sentinels {
    pub servers: Vec<Server>,
    pub sentinels: Vec<Server>,
    password: Option<String>,
    certificates: Option<Certificates>,
}

impl Sentinels {
    /// Sentinels without a password.
    pub fn start() -> Sentinels {
        Sentinels::with_password(None)
    }

    /// Sentinels with a password; the servers have none.
    pub fn with_password(password: Option<&str>) -> Sentinels {
        Sentinels::of(password, None)
    }

    /// Sentinels and servers with TLS for clients and among themselves.
    pub fn encrypted() -> Sentinels {
        Sentinels::of(None, Some(Certificates::of_this_machine()))
    }

    fn of(password: Option<&str>, certificates: Option<Certificates>) -> Sentinels {
        let server = |options: &[&str]| match &certificates {
            None => Server::start(options),
            Some(theirs) => {
                Server::encrypted(theirs, &[&["--tls-replication", "yes"], options].concat())
            }
        };
        let primary = server(&[]);
        let port = primary.deployed_port().to_string();
        let replica =
            || server(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]);
        let servers = vec![primary, replica(), replica()];
        wait_until("both replicas are in step", || online(&servers[0]) == 2);
        let sentinel = |own: u16, tls: &str, folder: &Path| {
            let mut lines = format!(
                "bind 127.0.0.1\nport {own}\n{tls}sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n\
                     sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
                     sentinel failover-timeout {SERVICE} 5000\n"
            );
            if let Some(password) = password {
                lines += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
            }
            let file = folder.join("sentinel.conf");
            std::fs::write(&file, lines).unwrap();
            let mut command = Command::new(Embedded::program());
            command.arg(file).arg("--sentinel");
            command
        };
        let start = |_| match &certificates {
            None => Server::run(|own, folder| sentinel(own, "", folder)),
            Some(theirs) => Server::run_encrypted(|own, tls_port, folder| {
                let mut tls = format!("tls-port {tls_port}\ntls-replication yes\n");
                for (name, value) in theirs.server_settings() {
                    tls += &format!("{name} {value}\n");
                }
                sentinel(own, &tls, folder)
            }),
        };
        let sentinels: Vec<_> = (0..3).map(start).collect();
        let password = password.map(str::to_owned);
        let deployment = Sentinels { servers, sentinels, password, certificates };
        let known = |sentinel: &Server| {
            let told: std::collections::HashMap<String, String> =
                deployment.ask(sentinel, &["SENTINEL", "MASTER", SERVICE]);
            told["num-other-sentinels"] == "2" && told["num-slaves"] == "2"
        };
        wait_until("the Sentinels know all", || deployment.sentinels.iter().all(known));
        deployment
    }

    fn ask<T: redis::FromRedisValue>(&self, sentinel: &Server, words: &[&str]) -> T {
        let mut connection = sentinel.connect();
        if let Some(password) = &self.password {
            let _: () = redis::cmd("AUTH").arg(password).query(&mut connection).unwrap();
        }
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connection).unwrap()
    }

    /// `redis-sentinel://` with the Sentinels, preceded by the ports `in_front`.
    pub fn url(&self, in_front: &[u16]) -> String {
        let own = self.sentinels.iter().map(Server::deployed_port);
        let nodes: Vec<String> =
            in_front.iter().copied().chain(own).map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://{}/{SERVICE}", nodes.join(","))
    }

    /// The file of the CA certificate of an encrypted deployment.
    pub fn ca(&self) -> String {
        self.certificates.as_ref().expect("its servers encrypt").ca()
    }

    /// The port of the primary, as the first Sentinel knows it.
    pub fn primary_port(&self) -> u16 {
        let told: (String, u16) =
            self.ask(&self.sentinels[0], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        told.1
    }

    /// A connection to the primary.
    pub fn primary(&self) -> Connection {
        let port = self.primary_port();
        self.servers.iter().find(|server| server.deployed_port() == port).unwrap().connect()
    }

    /// Orders a failover.
    pub fn fail_over(&self) {
        // The Sentinel refuses a replica that has only just started.
        wait_until("the failover is accepted", || {
            let mut command = redis::cmd("SENTINEL");
            let mut connection = self.sentinels[0].connect();
            command.arg("FAILOVER").arg(SERVICE).query::<()>(&mut connection).is_ok()
        });
    }

    /// Waits for another primary than the one at `port`.
    #[track_caller]
    pub fn wait_for_other_primary(&self, port: u16) {
        wait_until("another primary", || {
            let new = self.primary_port();
            new != port && self.servers.iter().any(|it| it.deployed_port() == new && is_primary(it))
        });
    }
}

fn is_primary(server: &Server) -> bool {
    let role = server
        .try_connect()
        .and_then(|mut c| redis::cmd("INFO").arg("replication").query::<String>(&mut c));
    role.is_ok_and(|text| text.contains("role:master"))
}

fn online(server: &Server) -> usize {
    let told: String = server.ask(&["INFO", "replication"]);
    told.matches("state=online").count()
}

/// A port that accepts connections and never answers.
pub fn black_hole() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).unwrap()
}

impl Sentinels {
    /// A fake Sentinel that answers every question with the same server, until the process ends.
    pub fn lying(port: u16) -> TcpListener {
        use std::io::{Read, Write};
        let listener = black_hole();
        let answering = listener.try_clone().unwrap();
        let port = port.to_string();
        let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
        let identity = framepress::internals::base::threads::Identity {
            role: framepress::internals::base::threads::Role::Signal,
            index: 0,
            core: None,
        };
        let stop = framepress::internals::base::Stop::default();
        let running = framepress::internals::base::threads::spawn(identity, &stop, move || {
            for stream in answering.incoming() {
                let Ok(mut stream) = stream else { break };
                while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
            Ok(())
        });
        running.unwrap().abandon();
        listener
    }
}

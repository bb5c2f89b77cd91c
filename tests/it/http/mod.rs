//! The statistics server, with well-behaved and hostile clients.

mod metrics;
mod monitoring;
mod pages;
mod safety;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use framepress::config::{HostPort, Secret};
use framepress::internals::base::Stop;
use framepress::internals::http::{Listener, Serving};

use crate::support::{FramepressProcess, LONG, RunningEngine, wait_until};

/// A parsed response.
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.text()))
    }
}

/// An engine in this process with a statistics server.
pub struct Site {
    addr: SocketAddr,
    _serving: Serving,
}

impl Site {
    pub fn of(engine: &RunningEngine, token: Option<&str>) -> Site {
        let addr = HostPort { host: "127.0.0.1".into(), port: 0 };
        let listener = Listener::bind(&addr).unwrap();
        let addr = listener.addr();
        let token = token.map(Secret::new);
        let serving = listener.serve(engine.view().clone(), token, &Stop::default()).unwrap();
        Site { addr, _serving: serving }
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.addr, method, path, headers).expect("an answer")
    }
}

/// Address of the statistics server of a program that took a free port.
pub fn address_of(process: &FramepressProcess) -> SocketAddr {
    let told = || {
        let said = process.said();
        let (_, rest) = said.split_once("statistics on http://")?;
        // The line may be incomplete.
        let (addr, _) = rest.split_once(char::is_whitespace)?;
        addr.parse().ok()
    };
    wait_until("the program says where its statistics are", LONG, || told().is_some());
    told().unwrap()
}

/// One request on a new connection; `None` if the connection ends without an answer.
pub fn ask(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if headers.iter().all(|(name, _)| *name != "Host") {
        request += &format!("Host: {addr}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all((request + "\r\n").as_bytes()).ok()?;
    let mut bytes = Vec::new();
    // A reset after the answer does not invalidate the answer.
    let _ = stream.read_to_end(&mut bytes);
    let head_len = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..head_len]).ok()?.to_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Some(Answer { status, headers, body: bytes.split_off(head_len + 4) })
}

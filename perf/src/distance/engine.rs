//! The engine as a child process that reaches Redis through a link.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use framepress_proxy::Proxy;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::place::{Place, free_port};
use crate::Outcome;
use crate::load::{Usage, guarded, usage_of};

/// Time limit of a requested end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// Names that the engine needs besides the address.
pub struct Names<'a> {
    pub input: &'a str,
    pub output: &'a str,
    pub group: &'a str,
    pub max_frame_age_ms: u64,
}

/// A running engine; dropping the value kills it.
pub struct Engine {
    child: Child,
    stats_port: u16,
    log: PathBuf,
}

impl Engine {
    /// Starts an engine. Its configuration has only keys that older builds know as well.
    pub fn start(
        bin: &Path,
        place: &Place,
        proxy: &Proxy,
        tls: bool,
        names: &Names<'_>,
    ) -> Outcome<Engine> {
        if !bin.is_file() {
            return Err(format!("no program at {}; see --bin", bin.display()).into());
        }
        let Names { input, output, group, max_frame_age_ms } = names;
        let scheme = if tls { "rediss" } else { "redis" };
        let stats_port = free_port()?;
        let config = format!(
            "redis_queue:\n  url: {scheme}://127.0.0.1:{}/0\n  tls: {{ca: {}}}\n  \
             input_queue: {input}\n  output_queue: {output}\n  consumer_group: {group}\n  \
             max_queue_length: 1000000\n  max_frame_age_ms: {max_frame_age_ms}\n\
             stats: {{addr: \"127.0.0.1:{stats_port}\"}}\n",
            proxy.port(),
            if tls { place.ca().display().to_string() } else { "null".to_owned() },
        );
        let file = place.file("framepress.yaml");
        fs::write(&file, config)?;
        let log = place.file("engine.log");
        let out = File::create(&log)?;
        let mut command = guarded(&bin.to_string_lossy());
        command.arg("run").arg("--config").arg(file);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        Ok(Engine { child: command.spawn()?, stats_port, log })
    }

    /// An error with its last output if the engine has ended.
    pub fn check(&mut self) -> Outcome<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        Err(format!("the engine ended with {status}:\n{said}").into())
    }

    pub fn usage(&self) -> Outcome<Usage> {
        usage_of(self.child.id())
    }

    /// `/api/v1/system/metrics`.
    pub fn metrics(&self) -> Outcome<Value> {
        let mut io = TcpStream::connect(("127.0.0.1", self.stats_port))?;
        io.set_read_timeout(Some(Duration::from_secs(5)))?;
        io.write_all(b"GET /api/v1/system/metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        io.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer from the engine")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Asks the engine to end, and waits.
    pub fn end(mut self) -> Outcome<()> {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::TERM)?;
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > END_LIMIT {
                return Err("the engine does not end when it is asked to".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

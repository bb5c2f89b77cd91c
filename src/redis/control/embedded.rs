//! A private redis-server on a Unix socket in a temporary folder: `embedded://`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Control;
use crate::base::private::PrivateFolder;
use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;
use crate::redis::protocol::Address;

/// Environment variable that names the server program, for example another Redis or a Valkey.
const PROGRAM_VARIABLE: &str = "FRAMEPRESS_REDIS_SERVER";

/// Maximum time until the server answers.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Prefix of the names of the servers' folders.
const FOLDER_PREFIX: &str = "framepress-redis-";

/// Log file of the server.
const LOG: &str = "redis.log";

/// A running private server; stopped, and its folder removed, on drop.
#[derive(Debug)]
pub struct Embedded {
    child: Child,
    address: Address,
    // Declared last, so that the folder is removed after the server.
    folder: PrivateFolder,
}

/// Exit code of `setpriv` if the program that it starts does not exist.
const NOT_FOUND: i32 = 127;

impl Embedded {
    /// Starts a server that listens on no TCP port and saves nothing.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the program is missing or does not start.
    pub fn start(stop: &Stop) -> Result<Embedded, Fault> {
        let folder = PrivateFolder::make(&std::env::temp_dir(), FOLDER_PREFIX)
            .map_err(|source| Fault::io("cannot make a temporary folder", source))?;
        let socket = folder.path().join("redis.sock");
        let address = Address::unix(&socket);
        let child = command(&socket, folder.path()).spawn().map_err(|error| missing(&error))?;
        let mut embedded = Embedded { child, address, folder };
        embedded.wait(stop)?;
        Ok(embedded)
    }

    /// The server program: `redis-server`, unless `FRAMEPRESS_REDIS_SERVER` names another.
    pub fn program() -> OsString {
        let named = std::env::var_os(PROGRAM_VARIABLE).filter(|name| !name.is_empty());
        let Some(named) = named else { return "redis-server".into() };
        // The server starts in its own folder, where a relative path would not be found.
        let is_path = Path::new(&named).components().count() > 1;
        match std::path::absolute(&named) {
            Ok(path) if is_path => path.into(),
            _ => named,
        }
    }

    /// The address of its Unix socket.
    pub fn address(&self) -> &Address {
        &self.address
    }

    fn wait(&mut self, stop: &Stop) -> Result<(), Fault> {
        let began = Tick::now();
        let mut control = Control::new(&self.address, Duration::from_secs(1));
        loop {
            if control.ping().is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                if status.code() == Some(NOT_FOUND) {
                    return Err(missing(&std::io::Error::from(rustix::io::Errno::NOENT)));
                }
                let said =
                    std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                return Err(Fault::Unusable(format!("redis-server ended with {status}: {last}")));
            }
            if began.elapsed() > START_LIMIT {
                return Err(Fault::Unusable("redis-server does not answer".into()));
            }
            if stop.sleep(Duration::from_millis(10)) {
                return Err(Fault::Unusable("stopped while redis-server was starting".into()));
            }
        }
    }
}

fn missing(why: &dyn std::fmt::Display) -> Fault {
    Fault::Unusable(format!(
        "embedded:// needs the program {}, which cannot be started ({why}); on Debian: apt-get \
         install redis-server",
        Path::new(&Embedded::program()).display()
    ))
}

/// With `setpriv`, if installed, the kernel ends the server together with this process, even if
/// this process is killed.
fn command(socket: &Path, folder: &Path) -> Command {
    let mut command = if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(Embedded::program());
        command
    } else {
        Command::new(Embedded::program())
    };
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--loglevel", "warning", "--maxmemory-policy", "noeviction"])
        .arg("--unixsocket")
        .arg(socket)
        // The folder already keeps other users out; this protects the socket whatever the umask.
        .args(["--unixsocketperm", "700"])
        .arg("--dir")
        .arg(folder)
        .current_dir(folder)
        .arg("--logfile")
        .arg(folder.join(LOG))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at a terminal must not reach the server: the drain still needs it.
        .process_group(0);
    command
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The server holds nothing worth saving.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

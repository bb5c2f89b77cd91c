//! The socket between the gate and tiny_http, which carries bearer tokens.
//!
//! It has a name in the file system only for a moment, in a folder that other users cannot enter.
//! Afterwards the gate reaches it through a file descriptor, so no other process can replace it,
//! and nothing is left behind however this process ends.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::base::private::PrivateFolder;

/// Prefix of the folder's name.
const FOLDER_PREFIX: &str = "framepress-http-";

/// Path to the socket.
#[derive(Debug)]
pub(super) struct Inner {
    path: PathBuf,
    /// Keeps the target of `path` open.
    _socket: Option<OwnedFd>,
    /// Kept only if the system cannot reach a socket through a descriptor.
    _folder: Option<PrivateFolder>,
}

impl Inner {
    /// Creates the socket.
    pub(super) fn bind() -> Result<(Inner, UnixListener)> {
        // If the temporary folder is read-only or its path too long for a socket, use `/dev/shm`.
        bind_in(&std::env::temp_dir())
            .or_else(|error| bind_in(Path::new("/dev/shm")).map_err(|_| error))
    }

    /// A socket at a path.
    #[cfg(test)]
    pub(super) fn at(path: PathBuf) -> Inner {
        Inner { path, _socket: None, _folder: None }
    }

    /// Connects, and checks that the peer is this process.
    pub(super) fn connect(&self) -> Result<UnixStream> {
        let stream = UnixStream::connect(&self.path)?;
        #[cfg(target_os = "linux")]
        if rustix::net::sockopt::socket_peercred(&stream)?.pid != rustix::process::getpid() {
            return Err(Error::other("another process answers in place of the stats server"));
        }
        Ok(stream)
    }
}

fn bind_in(parent: &Path) -> Result<(Inner, UnixListener)> {
    let folder = PrivateFolder::make(parent, FOLDER_PREFIX)?;
    let path = folder.path().join("http");
    let listener = UnixListener::bind(&path)?;
    let named = Inner { path: path.clone(), _socket: None, _folder: Some(folder) };
    Ok((by_descriptor(&path).unwrap_or(named), listener))
}

/// The same socket through a descriptor; `None` if that does not work.
fn by_descriptor(path: &Path) -> Option<Inner> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", socket.as_raw_fd()));
    let inner = Inner { path, _socket: Some(socket), _folder: None };
    // The listener sees this connection as a client that sends nothing.
    inner.connect().is_ok().then_some(inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_socket_has_no_name_and_leads_to_this_process() {
        let parent = tempfile::tempdir().unwrap();
        let (inner, listener) = bind_in(parent.path()).unwrap();
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left");
        let _probe = listener.accept().unwrap();
        let mut client = inner.connect().unwrap();
        client.write_all(b"x").unwrap();
        let mut server = listener.accept().unwrap().0;
        let mut read = [0];
        server.read_exact(&mut read).unwrap();
        assert_eq!(read, *b"x");
    }

    #[test]
    fn another_process_in_its_place_is_not_spoken_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http");
        let program = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\n\
                       s.listen()\nprint('ready', flush=True)\nsys.stdin.read()";
        let mut other = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        other.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let refused = Inner::at(path).connect().unwrap_err();
        assert!(refused.to_string().contains("another process"), "{refused}");
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}

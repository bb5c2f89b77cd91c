//! How many files and sockets the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Most descriptors requested: more than any engine opens, and few enough that a child which closes
/// them one by one loses no noticeable time.
const ASKED_MAX: u64 = 65_536;

/// Raises the limit of this process as far as the system allows, and returns the new limit. Shells
/// and service managers set a low limit that a process may raise up to a higher one.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(ASKED_MAX).min(ASKED_MAX);
    if limit.current.is_some_and(|current| current < most) {
        let mut raised = limit;
        raised.current = Some(most);
        // A refusal leaves the limit as it is.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    limit_now()
}

/// The current limit.
pub fn limit_now() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(ASKED_MAX)
}

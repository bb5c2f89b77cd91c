//! RESP over a socket: addresses, TLS, requests and answers.

mod address;
mod answers;
pub(in crate::redis) mod connection;
mod fault_point;
pub(in crate::redis) mod request;
pub(in crate::redis) mod resp;
mod tls;
mod transport;
mod value;

pub use address::{Address, Login};
pub use connection::{Connection, Waited};
pub use fault_point::{FaultPoint, Operation};
pub use resp::{RespHeader, RespLimits, RespReader, Trouble};
pub use tls::{Tls, TlsOptions};

//! What `check` asks a server: its facts, and the rights of an account.

pub mod rights;
pub mod survey;

pub use survey::Survey;

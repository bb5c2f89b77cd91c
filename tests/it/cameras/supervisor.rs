//! All cameras of a configuration in one process.

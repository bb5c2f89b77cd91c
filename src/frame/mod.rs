//! Floor 2: what travels.

pub mod plane;

pub use plane::{Plane, Planes, View};

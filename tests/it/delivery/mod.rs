//! What is promised about delivery: each frame once, none lost, whatever happens to the engine,
//! to its neighbours and to Redis.

mod disturbed;
mod neighbours;
mod pressure;
mod retention;

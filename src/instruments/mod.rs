//! Floor 6: what measurements need: sizes, scenes, a load on an engine, CPU time and memory. Used by
//! the subcommands `bench`, `tune` and `demo`, by `benches` and by `perf`.

mod load;
pub mod recording;
mod scene;
mod size;
mod usage;

pub use load::{Driven, Frames, Input, Load, Progress, backlog};
pub use scene::{SCENE_FRAMES, Scene};
pub use size::Size;
pub use usage::{cpu_of_threads, engine_cpu_ms, machine, rss_bytes_max};

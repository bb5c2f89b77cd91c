//! Pixels and figures that a consumer finds in a result.

mod cameras;
mod density;
mod figures;
mod golden_layouts;
mod huffman;
mod layouts;
mod parity;
mod pictures;
mod sizes;
mod start_tables;

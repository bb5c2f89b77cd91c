//! Compiles the wire contract and the C code for JPEG. protox parses the schema in Rust, so
//! `protoc` is not needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/processed_frame.proto");
    let schema = protox::compile(["processed_frame.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(schema)?;
    jpeg()
}

/// Compiles the C code for JPEG against the headers of the libjpeg-turbo that is linked.
fn jpeg() -> Result<(), Box<dyn Error>> {
    const SOURCES: [&str; 3] = ["src/image/listener.c", "src/image/jpeg.c", "src/image/compress.c"];
    println!("cargo:rerun-if-changed=src/image/listener.h");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    let headers = std::env::var("DEP_TURBOJPEG_INCLUDE")
        .map_err(|_| "turbojpeg-sys does not say where the headers of libjpeg-turbo are")?;
    cc::Build::new()
        .files(SOURCES)
        .includes(headers.split(','))
        .opt_level(2)
        .warnings(true)
        .extra_warnings(true)
        .try_compile("framepress_jpeg")?;
    Ok(())
}

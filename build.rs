//! Compiles the wire contract and the C side of JPEG decoding. protox parses the schema in Rust, so no
//! `protoc` has to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/processed_frame.proto");
    let schema = protox::compile(["processed_frame.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(schema)?;
    jpeg()
}

/// `src/image/jpeg.c`, against the headers of the very libjpeg-turbo that is linked.
fn jpeg() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=src/image/jpeg.c");
    let headers = std::env::var("DEP_TURBOJPEG_INCLUDE")
        .map_err(|_| "turbojpeg-sys does not say where the headers of libjpeg-turbo are")?;
    cc::Build::new()
        .file("src/image/jpeg.c")
        .includes(headers.split(','))
        .opt_level(2)
        .warnings(true)
        .extra_warnings(true)
        .try_compile("framepress_jpeg")?;
    Ok(())
}

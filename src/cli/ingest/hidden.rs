//! Keeps the password of a source out of the arguments of the process.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::IngestArgs;
use crate::base::{Fault, redact};
use crate::cli::failure::Failure;

/// Maximum length of a source; a pipe holds more.
const SOURCE_BYTES_MAX: u64 = 4096;

/// The source as given. If a typed source contains a password, it is removed from the arguments of
/// this process, which other users can read: the program executes itself again in the same process
/// and reads the source from its standard input.
pub(super) fn source(args: &IngestArgs) -> Result<OsString, Failure> {
    if let Some(path) = &args.source_file {
        let failed = |error| Fault::io(format!("source file {}", path.display()), error);
        let mut line = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(SOURCE_BYTES_MAX).read_to_end(&mut line).map_err(failed)?;
        let line = line.trim_ascii();
        if line.is_empty() || line.contains(&b'\n') {
            let text = format!("{} does not hold one line", path.display());
            return Err(Fault::Unusable(text).into());
        }
        return Ok(OsString::from_vec(line.to_vec()));
    }
    let source = args.source.clone().unwrap_or_default();
    let typed = source.to_string_lossy();
    let has_secret = typed.contains("://") && redact::text(&typed) != typed;
    if has_secret && source.len() as u64 <= SOURCE_BYTES_MAX {
        return Err(begin_again(&source).into());
    }
    Ok(source)
}

/// Executes the program again; returns only if that fails.
fn begin_again(source: &OsStr) -> Fault {
    let failed = |error| Fault::io("hiding the source", error);
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let (reader, mut writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => return failed(error),
    };
    if let Err(error) = writer.write_all(source.as_bytes()) {
        return failed(error);
    }
    drop(writer);
    let mut arguments = Vec::new();
    let mut typed = std::env::args_os().skip(1);
    while let Some(argument) = typed.next() {
        if argument == "--source" {
            typed.next();
        } else if !argument.as_bytes().starts_with(b"--source=") {
            arguments.push(argument);
            continue;
        }
        arguments.extend(["--source-file".into(), "/dev/stdin".into()]);
    }
    failed(Command::new(program).args(arguments).stdin(reader).exec())
}

//! The program as used at a terminal, in scripts and under a service manager.

mod demo;
mod dlq;
mod generated;
mod health;
mod ingest;
mod ingest_folders;
mod inspect;
mod logs;
mod memory;
mod old_files;
mod reload;
mod repeats;
mod top;
mod troubleshooting;

use std::process::{Command, Output, Stdio};

/// Runs the program to its end with a closed standard input.
fn framepress(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Standard output of a run that must end with exit code `code`.
#[track_caller]
fn says(code: i32, arguments: &[&str]) -> String {
    let output = framepress(arguments, &[]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}{error}");
    text
}

/// Standard error of a run that must end with exit code `code`.
#[track_caller]
fn complains(code: i32, arguments: &[&str]) -> String {
    let output = framepress(arguments, &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
    text
}

//! Explains a wrong command line, and hides the secrets in it.

use std::ffi::OsString;

use clap::Error;

use super::failure::Failure;
use super::output::out;
use crate::base::redact;
use crate::config::names_a_secret;

/// Shows help or explains what is wrong.
pub(super) fn explain(error: &Error) -> Failure {
    if error.use_stderr() {
        return Failure::Typed(error.to_string());
    }
    // Help and versions repeat nothing of the input, so they may keep their colours.
    match error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout())) {
        Ok(()) => Failure::ReaderGone,
        Err(source) => out::failed(source),
    }
}

/// Hides typed secrets in a message: URLs with passwords, and values of arguments whose names
/// suggest a secret.
pub(super) fn hide_secrets(message: &str, typed: &[OsString]) -> String {
    let mut hidden: Vec<(String, String)> = Vec::new();
    let mut is_value_of_secret = false;
    for argument in typed.iter().skip(1).map(|argument| argument.to_string_lossy()) {
        let (name, value) = argument.split_once('=').unwrap_or(("", &argument));
        let is_flag = argument.starts_with('-') && name.is_empty();
        let is_secret = names_a_secret(name) || (is_value_of_secret && !is_flag);
        if is_secret && !value.is_empty() {
            hidden.push((value.to_owned(), redact::HIDDEN.to_owned()));
        }
        for part in [&*argument, value] {
            let shown = redact::text(part);
            if shown != part {
                hidden.push((part.to_owned(), shown));
            }
        }
        // The value of an existing `-file` flag is a file name, not a secret.
        is_value_of_secret = is_flag && names_a_secret(&argument) && !argument.ends_with("-file");
    }
    // Longest first, because a secret may be part of another.
    hidden.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
    let mut message = message.to_owned();
    for (secret, shown) in hidden {
        message = message.replace(&secret, &shown);
        // In quoted values, quotes and backslashes are escaped.
        let quoted = format!("{secret:?}");
        message = message.replace(&quoted[1..quoted.len() - 1], &shown);
    }
    message
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::commands::Cli;

    #[test]
    fn what_was_typed_wrongly_is_shown_without_passwords() {
        for arguments in [
            &["run", "redis://:hunter2@h"][..],
            &["run", "--redis-ulr", "redis://:hunter2@h"],
            &["run", "--redis-ulr=redis://:hunter2@h"],
            &["run", "--log-level", "info", "redis:/u:hunter2@h"],
            &["bench", "--size", "rediss://hunter2@h/x"],
            &["bench", "--rate=http://h/?token=hunter2"],
            &["top", "token=hunter2"],
            &["top", "--token=hunter2"],
            &["top", "--token", "hunter2"],
            &["top", "--interval", "http://u:hunter2@h"],
            &["rtsp://u:hunter2@h"],
            &["run", "--password", "hunter2"],
            &["check", "--for", "redis://:hunter2@\"h"],
        ] {
            let typed: Vec<OsString> =
                ["framepress"].iter().chain(arguments).map(OsString::from).collect();
            let error = Cli::try_parse_from(&typed).unwrap_err();
            let said = hide_secrets(&error.to_string(), &typed);
            assert!(!said.contains("hunter2"), "{arguments:?}: {said}");
            assert!(said.contains("Usage: framepress") || said.contains("--help"), "{said}");
        }
        let typed = ["framepress", "bench", "--size", "7"].map(OsString::from);
        assert_eq!(hide_secrets("invalid value '7'", &typed), "invalid value '7'");
    }
}

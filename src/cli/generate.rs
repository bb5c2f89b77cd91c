//! `framepress completions` and `framepress man`, generated from the definition of the command
//! line, so that they cannot differ from it.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;
use super::output::out;
use crate::base::{Fault, files};

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress completions bash > /etc/bash_completion.d/framepress\n  \
    source <(framepress completions bash)\n  \
    framepress completions zsh > ~/.zfunc/_framepress\n  \
    framepress completions fish > ~/.config/fish/completions/framepress.fish")]
pub(super) struct CompletionsArgs {
    /// Shell to generate completions for
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress man | man -l -\n  \
    framepress man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write a page for each subcommand into this folder [default: the main page, to standard
    /// output]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "framepress", &mut text);
    out::verbatim(&text)
}

pub(super) fn man(args: &ManArgs, command: Command) -> Result<(), Failure> {
    match &args.folder {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command)
                .render(&mut text)
                .map_err(|source| Fault::io("cannot write the page", source))?;
            out::verbatim(&text)
        }
        Some(folder) => write_pages(folder, command).map_err(|source| {
            Fault::io(format!("cannot write to {}", folder.display()), source).into()
        }),
    }
}

fn write_pages(folder: &Path, command: Command) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_page(&command, folder)
}

/// Writes the page of a command and those of its subcommands.
fn write_page(command: &Command, folder: &Path) -> std::io::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_page(inner, folder)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    files::replace(&folder.join(page.get_filename()), &text)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::commands::Cli;

    /// Every command with its full name.
    fn commands(command: &Command, name: &str) -> Vec<(String, Command)> {
        let mut all = vec![(name.to_owned(), command.clone())];
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            all.extend(commands(inner, &format!("{name} {}", inner.get_name())));
        }
        all
    }

    #[test]
    fn every_command_explains_itself_with_an_example() {
        for (name, mut command) in commands(&Cli::command(), "framepress") {
            let help = command.render_long_help().to_string();
            let example = format!("  {name}");
            let shown = help.split("Example").nth(1).is_some_and(|part| {
                part.lines()
                    .any(|line| line.starts_with(&example) || line.contains(&format!(" {name}")))
            });
            assert!(shown, "{name} shows no example:\n{help}");
            assert!(command.get_about().is_some(), "{name} says nothing about itself");
        }
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        for (name, command) in commands(&Cli::command(), "framepress") {
            let help = command.term_width(80).render_long_help().to_string();
            let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 80).collect();
            assert!(wide.is_empty(), "{name}: {wide:#?}");
        }
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }
}

//! Generated output: completions, manual pages, converted configurations.

use std::process::{Command, Stdio};

use framepress::config::Loader;

use super::{complains, says};
use crate::support::skip;

#[test]
fn bash_completes_subcommands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("framepress.bash");
    std::fs::write(&file, says(0, &["completions", "bash"])).unwrap();
    let complete = |words: &str, current: &str, before: &str| {
        let count = words.split(' ').count();
        let script = format!(
            "source {} && COMP_WORDS=({words} '{current}') COMP_CWORD={count} && \
             _framepress framepress '{current}' '{before}' && echo \"${{COMPREPLY[*]}}\"",
            file.display()
        );
        let bash = Command::new("bash").args(["--norc", "-c", &script]).output().ok()?;
        assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
        Some(String::from_utf8(bash.stdout).unwrap())
    };
    let Some(commands) = complete("framepress", "in", "framepress") else {
        return skip("no bash to try the completions with");
    };
    assert_eq!(commands.trim(), "ingest inspect");
    let options = complete("framepress top", "--to", "top").unwrap();
    assert_eq!(options.trim(), "--token-file");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = says(0, &["completions", shell]);
        assert!(text.contains("migrate-config"), "{shell}: {text}");
    }
    complains(2, &["completions", "cobol"]);
}

#[test]
fn every_subcommand_has_a_manual_page_that_groff_takes() {
    let folder = tempfile::tempdir().unwrap();
    says(0, &["man", folder.path().to_str().unwrap()]);
    let pages: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|page| page.unwrap().path()).collect();
    let names: Vec<_> =
        pages.iter().map(|page| page.file_name().unwrap().to_str().unwrap()).collect();
    for name in ["framepress.1", "framepress-run.1", "framepress-dlq-replay.1", "framepress-top.1"]
    {
        assert!(names.contains(&name), "no {name} in {names:?}");
    }
    for page in &pages {
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(page)
            .stdin(Stdio::null())
            .output();
        let Ok(groff) = groff else {
            return skip("no groff to try the pages with; on Debian: apt-get install groff");
        };
        let said = String::from_utf8_lossy(&groff.stderr);
        assert!(groff.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
    assert!(says(0, &["man"]).contains(".TH framepress 1"));
}

#[test]
fn a_configuration_of_the_kafka_version_is_refused_converted_and_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.yaml");
    std::fs::write(
        &old,
        "kafka:\n  bootstrap_servers: kafka:9092\n  input_topic: frames\n  output_topic: results\n  \
         consumer_group: its\n  acks: all\nbatch_size: 10\n",
    )
    .unwrap();
    let old = old.to_str().unwrap();
    let refused = complains(2, &["run", "--config", old]);
    assert!(refused.contains(&format!("framepress migrate-config {old}")), "{refused}");

    let yaml = says(0, &["migrate-config", old]);
    let named = complains(0, &["migrate-config", old]);
    assert!(named.contains("not carried over: kafka.acks = all"), "{named}");
    let new = folder.path().join("new.yaml");
    std::fs::write(&new, yaml).unwrap();
    let loaded = Loader::new().file(Some(new)).load().unwrap();
    assert_eq!(loaded.config.redis_queue.input_queue, "frames");
    assert_eq!(loaded.config.redis_queue.batch_size, 10);
    complains(2, &["migrate-config", "/no/such/file.yaml"]);
}

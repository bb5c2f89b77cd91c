//! Judges the rights of the account, and whether the server has the commands at all.

use super::finding::Finding;
use crate::redis::Survey;
use crate::redis::check::rights::{Lack, Usage, When, is_unknown_command};

pub(super) fn judge(survey: &Survey, usage: &Usage, user: &str) -> Vec<Finding> {
    let code = "rights.account";
    let subcommand = usage.account.subcommand();
    let mut findings: Vec<Finding> = survey
        .missing
        .iter()
        .map(|missing| {
            let command = &missing.command;
            let needs = format!("{subcommand} needs it for {}", missing.purpose);
            let what = match &missing.lack {
                Lack::Command => return no_command(command, &needs),
                Lack::Key(key) => {
                    format!("the account {user} has no right to use the key {key} ({command})")
                }
                Lack::Right => format!("the account {user} has no right to use {command}"),
            };
            // Without these rights only displays show less.
            let finding = match missing.when {
                When::Cameras => Finding::warning(code, what),
                _ => Finding::error(code, what),
            };
            let rule = survey.greeting.rule(&missing.rule);
            finding.why(needs).mend(format!("ACL SETUSER {user} {rule}"))
        })
        .collect();
    if findings.is_empty() {
        let count = usage.rules().len();
        let what = format!("the account {user} has all {count} rights that {subcommand} needs");
        findings.push(Finding::ok(code, what));
    }
    let hidden = [("INFO", survey.info.is_none()), ("CONFIG GET", survey.settings.is_none())];
    let hidden: Vec<_> = hidden.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if !hidden.is_empty() {
        findings.push(
            Finding::note(
                "rights.insight",
                format!("the account {user} cannot use {}", hidden.join(" and ")),
            )
            .why(
                "the engine does not need this, but check could not examine memory policy, \
                 persistence and limits",
            )
            .mend(
                "run this check once with an account that can, by --redis-url; where the commands \
                 are renamed, look at the server's configuration itself",
            ),
        );
    }
    findings
}

/// The finding for a command that the server does not know.
fn no_command(command: &str, needs: &str) -> Finding {
    Finding::error("server.command", format!("the server has no command {command}"))
        .why(needs)
        .mend(format!(
            "remove the rename-command of {} from the server's configuration and restart it, or \
             use a server that has the command",
            command.split(' ').next().unwrap_or_default()
        ))
}

/// The finding if SELECT is refused; `message` says whether by the account or by the server.
pub(super) fn no_select(usage: &Usage, user: &str, message: &str) -> Finding {
    let needs = format!(
        "{} needs it for database {}; without it check could not examine anything else on the \
         server",
        usage.account.subcommand(),
        usage.database
    );
    if is_unknown_command(message) {
        return no_command("SELECT", &needs);
    }
    Finding::error("rights.account", format!("the account {user} has no right to use SELECT"))
        .why(needs)
        .mend(format!("ACL SETUSER {user} +select"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok};
    use super::super::finding::tests::only;
    use super::super::tests::{config, healthy, usage_of};
    use super::*;
    use crate::redis::check::rights::{Lack, Missing};

    #[test]
    fn a_missing_right_names_the_command_and_how_to_grant_it() {
        let usage = usage_of(&config(&[]));
        let mut survey = healthy();
        only(&judge(&survey, &usage, "engine"), "rights.account", Ok);
        survey.missing = vec![Missing {
            rule: "+xgroup|create".into(),
            command: "XGROUP CREATE".into(),
            lack: Lack::Right,
            purpose: "creating the consumer group",
            when: When::Always,
        }];
        let findings = judge(&survey, &usage, "engine");
        let finding = only(&findings, "rights.account", Error);
        assert!(finding.what.contains("XGROUP CREATE"), "{finding:?}");
        assert_eq!(finding.remedy, "ACL SETUSER engine +xgroup|create");
    }

    #[test]
    fn a_missing_command_is_no_matter_of_rights() {
        let usage = usage_of(&config(&[]));
        let mut survey = healthy();
        survey.missing = vec![Missing {
            rule: "+script|load".into(),
            command: "SCRIPT LOAD".into(),
            lack: Lack::Command,
            purpose: "loading the commit script",
            when: When::Always,
        }];
        let findings = judge(&survey, &usage, "engine");
        let finding = only(&findings, "server.command", Error);
        assert!(finding.what.contains("SCRIPT LOAD"), "{finding:?}");
        assert!(finding.why.contains("loading the commit script"), "{finding:?}");
        assert!(finding.remedy.contains("rename-command of SCRIPT"), "{finding:?}");
        assert!(findings.iter().all(|finding| finding.code != "rights.account"), "{findings:?}");
    }

    #[test]
    fn what_could_not_be_looked_at_is_said() {
        let mut survey = healthy();
        survey.settings = None;
        let findings = judge(&survey, &usage_of(&config(&[])), "engine");
        assert!(only(&findings, "rights.insight", Note).what.contains("CONFIG GET"));
    }
}

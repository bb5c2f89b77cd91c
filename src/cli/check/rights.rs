//! Judging the rights of the account.

use super::finding::Finding;
use crate::redis::Survey;
use crate::redis::rights::Usage;

pub(super) fn judge(survey: &Survey, usage: &Usage, user: &str) -> Vec<Finding> {
    let code = "rights.account";
    let subcommand = usage.account.subcommand();
    let mut findings: Vec<Finding> = survey
        .missing
        .iter()
        .map(|missing| {
            let command = &missing.command;
            let what = match &missing.key {
                Some(key) => format!("the account {user} may not use the key {key} ({command})"),
                None => format!("the account {user} may not use {command}"),
            };
            Finding::error(code, what)
                .why(format!("{subcommand} needs it for {}", missing.purpose))
                .mend(format!("ACL SETUSER {user} {}", missing.rule))
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
                format!("the account {user} may not use {}", hidden.join(" and ")),
            )
            .why(
                "the engine does not need it, but this check could not look at memory policy, \
                 persistence and limits",
            )
            .mend("run this check once with an account that may, by --redis-url"),
        );
    }
    findings
}

/// The account may not choose the database.
pub(super) fn no_select(usage: &Usage, user: &str) -> Finding {
    Finding::error("rights.account", format!("the account {user} may not use SELECT"))
        .why(format!(
            "{} needs it for database {}; nothing else on the server could be looked at",
            usage.account.subcommand(),
            usage.database
        ))
        .mend(format!("ACL SETUSER {user} +select"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity::{Error, Note, Ok};
    use super::super::finding::tests::only;
    use super::super::tests::{config, healthy, usage_of};
    use super::*;
    use crate::redis::rights::Missing;

    #[test]
    fn a_missing_right_names_the_command_and_how_to_grant_it() {
        let usage = usage_of(&config(&[]));
        let mut survey = healthy();
        only(&judge(&survey, &usage, "engine"), "rights.account", Ok);
        survey.missing = vec![Missing {
            rule: "+xgroup|create".into(),
            command: "XGROUP CREATE".into(),
            key: None,
            purpose: "creating the consumer group",
        }];
        let findings = judge(&survey, &usage, "engine");
        let finding = only(&findings, "rights.account", Error);
        assert!(finding.what.contains("XGROUP CREATE"), "{finding:?}");
        assert_eq!(finding.remedy, "ACL SETUSER engine +xgroup|create");
    }

    #[test]
    fn what_could_not_be_looked_at_is_said() {
        let mut survey = healthy();
        survey.settings = None;
        let findings = judge(&survey, &usage_of(&config(&[])), "engine");
        assert!(only(&findings, "rights.insight", Note).what.contains("CONFIG GET"));
    }
}

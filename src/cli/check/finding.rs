//! A finding of `check`: what it is, why it matters, what to do.

use serde::Serialize;

/// How much a finding matters, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Works, but may cost frames, time or attention.
    Warning,
    /// Will not work as configured.
    Error,
}

impl Severity {
    pub(super) const ALL: [Severity; 4] =
        [Severity::Error, Severity::Warning, Severity::Note, Severity::Ok];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One finding. `code` is `area.subject` and never changes; the texts may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) code: &'static str,
    pub(super) severity: Severity,
    pub(super) what: String,
    /// Empty if all is well.
    pub(super) why: String,
    /// Empty if there is nothing to do.
    #[serde(rename = "do")]
    pub(super) remedy: String,
}

impl Finding {
    fn new(code: &'static str, severity: Severity, what: impl Into<String>) -> Finding {
        Finding { code, severity, what: what.into(), why: String::new(), remedy: String::new() }
    }

    pub(super) fn ok(code: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(code, Severity::Ok, what)
    }

    pub(super) fn note(code: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(code, Severity::Note, what)
    }

    pub(super) fn warning(code: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(code, Severity::Warning, what)
    }

    pub(super) fn error(code: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(code, Severity::Error, what)
    }

    /// Sets why it matters.
    pub(super) fn why(self, why: impl Into<String>) -> Finding {
        Finding { why: why.into(), ..self }
    }

    /// Sets what to do about it.
    pub(super) fn mend(self, remedy: impl Into<String>) -> Finding {
        Finding { remedy: remedy.into(), ..self }
    }

    /// The first part of the code: `memory` of `memory.policy`.
    pub(super) fn area(&self) -> &'static str {
        self.code.split('.').next().unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the only finding with that code and checks its severity. From warning on it must say
    /// why it matters and what to do.
    #[track_caller]
    pub(in super::super) fn only<'a>(
        findings: &'a [Finding],
        code: &str,
        severity: Severity,
    ) -> &'a Finding {
        let of_code: Vec<_> = findings.iter().filter(|finding| finding.code == code).collect();
        assert_eq!(of_code.len(), 1, "one finding {code} in {findings:#?}");
        assert_eq!(of_code[0].severity, severity, "{:#?}", of_code[0]);
        let bad = severity >= Severity::Warning;
        let explained = !of_code[0].why.is_empty() && !of_code[0].remedy.is_empty();
        assert!(!bad || explained, "why, and what to do: {:#?}", of_code[0]);
        of_code[0]
    }

    #[test]
    fn severities_are_ordered_by_how_bad_they_are() {
        assert!(Severity::Error > Severity::Warning && Severity::Note > Severity::Ok);
    }
}

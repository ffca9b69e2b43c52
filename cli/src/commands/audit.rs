//! `audit`.

use std::collections::HashSet;

use bulkhead_api::call::{AuditFilter, AuditRecord};
use bulkhead_api::{from_json, to_json};
use futures_util::StreamExt;

use super::Session;
use crate::args::{self, AskChoice};
use crate::error::{CommandError, Exit};
use crate::text::{self, plain};

pub(super) async fn audit(mut session: Session, args: args::Audit) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let filter = AuditFilter {
        last: args.lines,
        qube: args.qube.clone(),
        service: args.service.clone(),
        decision: args.decision.map(|choice| decision(choice).to_owned()),
    };
    let mut added = client.proxy.receive_audit_recorded().await?;
    if args.follow {
        // Before reading: what comes in between comes twice then, and never not at all.
        client.proxy.subscribe(&["audit"]).await?;
    }
    let json = client.proxy.audit_tail(&to_json(&filter)?).await?;
    let records: Vec<AuditRecord> = from_json(&json)?;
    for record in &records {
        show(&mut session, record, args.json)?;
    }
    if !args.follow {
        return Ok(Exit::Done);
    }
    let mut seen: HashSet<String> = HashSet::new();
    for record in &records {
        seen.insert(to_json(record)?);
    }
    while let Some(signal) = added.next().await {
        let record: AuditRecord = from_json(signal.args()?.record_json())?;
        if matches(&filter, &record) && !seen.remove(&to_json(&record)?) {
            show(&mut session, &record, args.json)?;
        }
    }
    Err(CommandError::new("bulkheadd has ended"))
}

fn decision(choice: AskChoice) -> &'static str {
    match choice {
        AskChoice::Allow => "allow",
        AskChoice::Deny => "deny",
    }
}

fn matches(filter: &AuditFilter, record: &AuditRecord) -> bool {
    let service = record.service.split('+').next().unwrap_or_default();
    let qube = |name: &String| *name == record.source || *name == record.target;
    let named = |name: &String| name == service || *name == record.service;
    filter.qube.as_ref().is_none_or(qube)
        && filter.service.as_ref().is_none_or(named)
        && filter
            .decision
            .as_ref()
            .is_none_or(|d| *d == record.decision)
}

fn show(session: &mut Session, record: &AuditRecord, json: bool) -> Result<(), CommandError> {
    if json {
        return session.out.json(record);
    }
    session.out.text(&line(record))
}

fn line(record: &AuditRecord) -> String {
    let time = text::time(record.time / 1000);
    let target = if record.target.is_empty() {
        &record.requested_target
    } else {
        &record.target
    };
    format!(
        "{time}  {:<5}  {} -> {}  {}  by {} ({})",
        plain(&record.decision),
        plain(&record.source),
        plain(target),
        plain(&record.service),
        plain(&record.by),
        plain(&record.rule),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            time: 1_709_251_199_123,
            source: "work".into(),
            requested_target: "@default".into(),
            target: "vault".into(),
            service: "qubes.Filecopy".into(),
            decision: "allow".into(),
            by: "user".into(),
            rule: "system.ron:40".into(),
        }
    }

    #[test]
    fn shows_a_record_on_one_line() {
        insta::assert_snapshot!(
            line(&record()),
            @"2024-02-29 23:59:59  allow  work -> vault  qubes.Filecopy  by user (system.ron:40)"
        );
        let refused = AuditRecord {
            target: String::new(),
            decision: "deny".into(),
            service: "bad\u{1b}[2Jname+x".into(),
            by: "policy".into(),
            ..record()
        };
        insta::assert_snapshot!(
            line(&refused),
            @"2024-02-29 23:59:59  deny   work -> @default  bad_[2Jname+x  by policy (system.ron:40)"
        );
    }

    #[test]
    fn filters_as_the_daemon_does() {
        let filter =
            |qube: Option<&str>, service: Option<&str>, decision: Option<&str>| AuditFilter {
                last: 1,
                qube: qube.map(Into::into),
                service: service.map(Into::into),
                decision: decision.map(Into::into),
            };
        let record = AuditRecord {
            service: "a.B+c".into(),
            ..record()
        };
        assert!(matches(&filter(None, None, None), &record));
        assert!(matches(
            &filter(Some("vault"), Some("a.B"), Some("allow")),
            &record
        ));
        assert!(matches(&filter(Some("work"), Some("a.B+c"), None), &record));
        assert!(!matches(&filter(Some("other"), None, None), &record));
        assert!(!matches(&filter(None, Some("a"), None), &record));
        assert!(!matches(&filter(None, None, Some("deny")), &record));
    }
}

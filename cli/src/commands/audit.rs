//! `bulkhead audit`.

use bulkhead_api::call::{AuditFilter, AuditRecord};
use bulkhead_api::client::{Incoming, Signals};
use bulkhead_api::event::{Event, Topic};
use bulkhead_api::{from_json, to_json};

use crate::args::{AuditArgs, Decision};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::text::line;
use crate::output::{note, print, time};

pub(crate) async fn audit(client: Client, args: AuditArgs) -> Result<Exit, Failure> {
    let filter = AuditFilter {
        last: args.last,
        qube: args.qube,
        service: args.service,
        decision: args.decision.map(|decision| match decision {
            Decision::Allow => "allow".to_owned(),
            Decision::Deny => "deny".to_owned(),
        }),
    };
    // Subscribed before reading, so that nothing falls between.
    let events = if args.follow {
        Some(Signals::subscribe(&client, &[Topic::Audit]).await?)
    } else {
        None
    };
    let mut newest = Vec::new();
    if filter.last > 0 {
        let reply = client.proxy.audit_tail(&to_json(&filter)?).await?;
        newest = from_json::<Vec<AuditRecord>>(&reply)?;
    }
    let paint = style::stdout();
    let mut shown = String::new();
    for record in &newest {
        shown.push_str(&tell(record, args.json, paint)?);
    }
    print(&shown)?;
    let Some(mut events) = events else {
        return Ok(Exit::Done);
    };
    loop {
        match events.next().await? {
            Incoming::Event(event) => {
                let Event::AuditRecorded(record) = *event else {
                    continue;
                };
                // Recorded between the two requests: it was in the reply.
                if newest.contains(&record) {
                    newest.retain(|seen| *seen != record);
                } else if matches(&filter, &record) {
                    print(&tell(&record, args.json, paint)?)?;
                }
            }
            Incoming::Lost => note("Records came too fast; some are only in the log.\n"),
        }
    }
}

fn matches(filter: &AuditFilter, record: &AuditRecord) -> bool {
    let qube = filter.qube.as_ref().is_none_or(|qube| {
        [&record.source, &record.target, &record.requested_target].contains(&qube)
    });
    let service = filter.service.as_ref().is_none_or(|service| {
        let name = record.service.split('+').next();
        *service == record.service || name == Some(service)
    });
    let decision = filter.decision.as_ref();
    qube && service && decision.is_none_or(|decision| *decision == record.decision)
}

fn tell(record: &AuditRecord, json: bool, paint: Paint) -> Result<String, Failure> {
    if json {
        return Ok(format!("{}\n", to_json(record)?));
    }
    let decision = match record.decision.as_str() {
        "allow" => paint.added("allow"),
        "deny" => paint.removed("deny "),
        other => line(other),
    };
    let asked = line(&record.requested_target);
    let target = match line(&record.target) {
        target if target.is_empty() || target == asked => asked,
        target if asked.is_empty() => target,
        target => format!("{target} (asked for {asked})"),
    };
    let many = record.since.map(|since| {
        let calls = match record.count {
            1 => "1 call".to_owned(),
            count => format!("{count} calls"),
        };
        format!("  {calls} since {}", time::utc(since / 1000))
    });
    Ok(format!(
        "{}  {decision}  {}  {} -> {target}  by {} ({}){}\n",
        paint.dim(&time::utc(record.time / 1000)),
        line(&record.service),
        line(&record.source),
        line(&record.by),
        line(&record.rule),
        many.unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AuditRecord {
        AuditRecord {
            time: 1_709_210_096_123,
            source: "work".into(),
            requested_target: "@default".into(),
            target: "vault".into(),
            service: "qubes.Filecopy+x".into(),
            decision: "allow".into(),
            by: "user".into(),
            rule: "policy/30.policy:4".into(),
            notify: false,
            count: 1,
            since: None,
        }
    }

    #[test]
    fn a_record_is_a_line() {
        let denied = AuditRecord {
            requested_target: "vault".into(),
            target: String::new(),
            decision: "deny".into(),
            by: "policy".into(),
            ..record()
        };
        let counted = AuditRecord {
            count: 4321,
            since: Some(1_709_210_000_000),
            ..denied.clone()
        };
        let disposable = AuditRecord {
            requested_target: String::new(),
            target: "disp7".into(),
            ..record()
        };
        let lines =
            [record(), denied, counted, disposable].map(|r| tell(&r, false, Paint::NEVER).unwrap());
        insta::assert_snapshot!(lines.concat(), @r"
        2024-02-29 12:34:56  allow  qubes.Filecopy+x  work -> vault (asked for @default)  by user (policy/30.policy:4)
        2024-02-29 12:34:56  deny   qubes.Filecopy+x  work -> vault  by policy (policy/30.policy:4)
        2024-02-29 12:34:56  deny   qubes.Filecopy+x  work -> vault  by policy (policy/30.policy:4)  4321 calls since 2024-02-29 12:33:20
        2024-02-29 12:34:56  allow  qubes.Filecopy+x  work -> disp7  by user (policy/30.policy:4)
        ");
    }

    #[test]
    fn filters_count_for_what_comes_too() {
        let with = |edit: fn(&mut AuditFilter)| {
            let mut filter = AuditFilter::default();
            edit(&mut filter);
            matches(&filter, &record())
        };
        assert!(with(|_| {}));
        assert!(with(|f| f.qube = Some("vault".into())));
        assert!(!with(|f| f.qube = Some("other".into())));
        assert!(with(|f| f.service = Some("qubes.Filecopy".into())));
        assert!(with(|f| f.service = Some("qubes.Filecopy+x".into())));
        assert!(!with(|f| f.service = Some("qubes.File".into())));
        assert!(!with(|f| f.decision = Some("deny".into())));
    }
}

//! `status`.

use bulkhead_api::change::Status;
use bulkhead_api::from_json;

use super::Session;
use crate::args;
use crate::error::{CommandError, Exit};
use crate::text::{self, count, plain};

pub(super) async fn status(mut session: Session, args: args::Json) -> Result<Exit, CommandError> {
    let client = session.client().await?;
    let json = client.proxy.status().await?;
    if args.json {
        session.out.raw_json(&json)?;
        return Ok(Exit::Done);
    }
    let status: Status = from_json(&json)?;
    session.out.text(&describe(&status))?;
    Ok(Exit::Done)
}

fn describe(status: &Status) -> String {
    let mut out = String::new();
    match &status.generation {
        Some(generation) => {
            let created = text::time(generation.created);
            let who = plain(&generation.who);
            let qubes = count(u64::from(generation.qubes), "qube");
            let number = generation.number;
            out.push_str(&format!(
                "generation {number} by {who}, {created} UTC: {qubes}\n"
            ));
            if !generation.message.is_empty() {
                out.push_str(&format!("  {}\n", plain(&generation.message)));
            }
        }
        None => out.push_str("nothing was applied yet\n"),
    }
    out.push_str(&format!("hypervisor {}\n", plain(&status.hypervisor)));
    for notice in &status.notices {
        out.push_str(&format!("  {}\n", plain(notice)));
    }
    if let Some(applying) = &status.applying {
        out.push_str(&format!(
            "{} has been applying since {} UTC: {} of {}\n",
            plain(&applying.who),
            text::time(applying.since),
            applying.done,
            count(u64::from(applying.steps), "step"),
        ));
    }
    for warning in &status.warnings {
        out.push_str(&format!("warning: {}\n", plain(warning)));
    }
    for pending in &status.pending {
        out.push_str(&format!(
            "{} gets its new {} at its next start\n",
            plain(&pending.qube),
            plain(&pending.properties.join(", ")),
        ));
    }
    if status.drift.is_empty() {
        out.push_str("everything is as declared\n");
    } else {
        out.push_str("\nwhat differs from what is declared:\n");
        for drift in &status.drift {
            out.push_str(&format!(
                "  {}: {}\n    {}\n",
                plain(&drift.subject),
                plain(&drift.text),
                plain(&drift.remedy),
            ));
        }
        out.push_str("`bulkhead apply` repairs this\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_api::change::{Drift, GenerationInfo, PendingRestart};

    fn status() -> Status {
        Status {
            generation: Some(GenerationInfo {
                number: 3,
                created: 1_709_251_199,
                who: "root".into(),
                message: "add vault".into(),
                qubes: 6,
                rollback_of: None,
                current: true,
                booted: false,
            }),
            applying: None,
            drift: Vec::new(),
            pending: Vec::new(),
            warnings: Vec::new(),
            hypervisor: "embedded".into(),
            notices: vec!["this is not Xen".into()],
        }
    }

    #[test]
    fn says_that_all_is_well() {
        insta::assert_snapshot!(describe(&status()), @r"
        generation 3 by root, 2024-02-29 23:59:59 UTC: 6 qubes
          add vault
        hypervisor embedded
          this is not Xen
        everything is as declared
        ");
    }

    #[test]
    fn says_what_differs() {
        let mut status = status();
        status.generation = None;
        status.notices.clear();
        status.pending.push(PendingRestart {
            qube: "work".into(),
            properties: vec!["netvm".into()],
        });
        status.drift.push(Drift {
            subject: "sys-net".into(),
            text: "it does not run".into(),
            remedy: "It is started.".into(),
        });
        insta::assert_snapshot!(describe(&status), @r"
        nothing was applied yet
        hypervisor embedded
        work gets its new netvm at its next start

        what differs from what is declared:
          sys-net: it does not run
            It is started.
        `bulkhead apply` repairs this
        ");
    }
}

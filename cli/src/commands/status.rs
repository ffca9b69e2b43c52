//! `bulkhead status`.

use bulkhead_api::change::Status;
use bulkhead_api::from_json;
use bulkhead_api::policy::{PolicyFault, PolicyStatus};

use crate::args::StatusArgs;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::text::line;
use crate::output::{print, print_json_text, time};

pub(crate) async fn status(client: Client, args: StatusArgs) -> Result<Exit, Failure> {
    let reply = client.proxy.status().await?;
    if args.json {
        print_json_text(&reply)?;
    } else {
        print(&tell(&from_json(&reply)?, style::stdout()))?;
    }
    Ok(Exit::Done)
}

fn tell(status: &Status, paint: Paint) -> String {
    let mut out = String::new();
    let mut say = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    match &status.generation {
        Some(info) => {
            let (number, made, who) = (info.number, time::utc(info.created), line(&info.who));
            let number = paint.strong(&format!("generation {number}"));
            say(format!("{number}, made {made} UTC by {who}"));
            if !info.message.is_empty() {
                say(format!("  {}", line(&info.message)));
            }
        }
        None => say("No generation yet: `bulkhead apply` makes the first.".to_owned()),
    }
    say(format!("hypervisor: {}", line(&status.hypervisor)));
    for notice in &status.notices {
        say(format!("{} {}", paint.hint("note:"), line(notice)));
    }
    if !status.without_effect.is_empty() {
        say(format!(
            "{} declared, and without effect here:",
            paint.hint("note:")
        ));
        for (property, qubes) in &status.without_effect {
            say(format!("  {}: {}", line(property), line(&qubes.join(", "))));
        }
    }
    if let Some(applying) = &status.applying {
        let (who, since) = (line(&applying.who), time::utc(applying.since));
        let (done, steps) = (applying.done, applying.steps);
        say(format!(
            "{} {who} since {since} UTC, {done} of {steps} steps done",
            paint.warning("applying:")
        ));
    }
    for warning in &status.warnings {
        say(format!("{} {}", paint.warning("warning:"), line(warning)));
    }
    for line in policy(&status.policy, paint) {
        say(line);
    }
    if status.drift.is_empty() {
        say(paint.added("Everything is as declared."));
    } else {
        say(paint.changed("Not as declared:"));
        for drift in &status.drift {
            say(format!("  {}: {}", line(&drift.subject), line(&drift.text)));
            say(format!("    {}", paint.dim(&line(&drift.remedy))));
        }
        say("Repair it with `bulkhead apply`.".to_owned());
    }
    if !status.pending.is_empty() {
        say(paint.changed("Waiting for a restart:"));
        for pending in &status.pending {
            let properties = line(&pending.properties.join(", "));
            say(format!("  {}: {properties}", line(&pending.qube)));
        }
    }
    out
}

/// What a person must know of the policy; nothing if all is well.
fn policy(status: &PolicyStatus, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if status.denies_all && status.faults().next().is_some() {
        let text = "The policy cannot be used: every call is refused.";
        lines.push(paint.removed(text));
    }
    lines.extend(status.faults.iter().flat_map(|one| fault(one, paint)));
    for folder in status.folders.iter().filter(|folder| !folder.ok) {
        let names = line(&folder.folders.join(", "));
        let outcome = match folder.read {
            _ if status.denies_all => String::new(),
            None => ": the last good rules stay in force".to_owned(),
            Some(read) => format!(": the rules of {} UTC stay in force", time::utc(read)),
        };
        let heading = format!("Policy of {names} cannot be read{outcome}.");
        lines.push(paint.changed(&heading));
        lines.extend(folder.faults.iter().flat_map(|one| fault(one, paint)));
        let told = u64::try_from(folder.faults.len()).unwrap_or(u64::MAX);
        if folder.faults_in_all > told {
            lines.push(format!("  and {} more", folder.faults_in_all - told));
        }
    }
    if let Some(why) = &status.blind {
        let warning = paint.warning("warning:");
        let why = line(why);
        lines.push(format!(
            "{warning} changes of policy folders are not noticed: {why}"
        ));
    }
    lines
}

fn fault(fault: &PolicyFault, paint: Paint) -> [String; 2] {
    [
        format!("  {}: {}", line(&fault.place), line(&fault.message)),
        format!("    {}", paint.dim(&line(&fault.remedy))),
    ]
}

#[cfg(test)]
mod tests {
    use bulkhead_api::change::{Applying, Drift, GenerationInfo, PendingRestart};
    use bulkhead_api::policy::PolicyFolderStatus;

    use super::*;

    fn quiet() -> Status {
        Status {
            generation: None,
            applying: None,
            drift: Vec::new(),
            pending: Vec::new(),
            warnings: Vec::new(),
            hypervisor: "embedded".into(),
            notices: Vec::new(),
            without_effect: Default::default(),
            policy: PolicyStatus::default(),
        }
    }

    #[test]
    fn a_new_machine() {
        insta::assert_snapshot!(tell(&quiet(), Paint::NEVER), @r"
        No generation yet: `bulkhead apply` makes the first.
        hypervisor: embedded
        Everything is as declared.
        ");
    }

    #[test]
    fn a_policy_that_cannot_be_read() {
        let fault = |place: &str| PolicyFault {
            place: place.into(),
            message: "unknown action `alow`".into(),
            remedy: "did you mean `allow`?".into(),
        };
        let folder = PolicyFolderStatus {
            place: "system.ron:7".into(),
            folders: vec!["/run/qubes/policy.d".into(), "/etc/qubes/policy.d".into()],
            ok: false,
            rules: 12,
            files: 2,
            read: Some(1_709_210_096),
            faults: vec![fault("/etc/qubes/policy.d/30-user.policy:3:17")],
            faults_in_all: 40,
        };
        let mut status = Status {
            policy: PolicyStatus {
                rules: 30,
                folders: vec![folder],
                blind: Some("no space left on device".into()),
                ..PolicyStatus::default()
            },
            ..quiet()
        };
        insta::assert_snapshot!(tell(&status, Paint::NEVER), @r"
        No generation yet: `bulkhead apply` makes the first.
        hypervisor: embedded
        Policy of /run/qubes/policy.d, /etc/qubes/policy.d cannot be read: the rules of 2024-02-29 12:34:56 UTC stay in force.
          /etc/qubes/policy.d/30-user.policy:3:17: unknown action `alow`
            did you mean `allow`?
          and 39 more
        warning: changes of policy folders are not noticed: no space left on device
        Everything is as declared.
        ");
        status.policy.denies_all = true;
        status.policy.folders[0].faults_in_all = 1;
        status.policy.blind = None;
        insta::assert_snapshot!(tell(&status, Paint::NEVER), @r"
        No generation yet: `bulkhead apply` makes the first.
        hypervisor: embedded
        The policy cannot be used: every call is refused.
        Policy of /run/qubes/policy.d, /etc/qubes/policy.d cannot be read.
          /etc/qubes/policy.d/30-user.policy:3:17: unknown action `alow`
            did you mean `allow`?
        Everything is as declared.
        ");
    }

    #[test]
    fn everything_there_is_to_tell() {
        let status = Status {
            generation: Some(GenerationInfo {
                number: 7,
                created: 1_709_210_096,
                who: "ada".into(),
                message: "more memory".into(),
                qubes: 6,
                rollback_of: None,
                current: true,
                booted: false,
            }),
            applying: Some(Applying {
                who: "bob".into(),
                since: 1_709_210_100,
                done: 2,
                steps: 9,
            }),
            drift: vec![Drift {
                subject: "work".into(),
                text: "it has died".into(),
                remedy: "it is started".into(),
            }],
            pending: vec![PendingRestart {
                qube: "vault".into(),
                properties: vec!["kernel".into(), "vcpus".into()],
            }],
            warnings: vec!["volume `old:private` is still there".into()],
            notices: vec!["this is not Xen".into()],
            without_effect: [
                ("kernel".into(), vec!["vault".into()]),
                (
                    "volumes.private.size".into(),
                    vec!["vault".into(), "work".into()],
                ),
            ]
            .into(),
            ..quiet()
        };
        insta::assert_snapshot!(tell(&status, Paint::NEVER), @r"
        generation 7, made 2024-02-29 12:34:56 UTC by ada
          more memory
        hypervisor: embedded
        note: this is not Xen
        note: declared, and without effect here:
          kernel: vault
          volumes.private.size: vault, work
        applying: bob since 2024-02-29 12:35:00 UTC, 2 of 9 steps done
        warning: volume `old:private` is still there
        Not as declared:
          work: it has died
            it is started
        Repair it with `bulkhead apply`.
        Waiting for a restart:
          vault: kernel, vcpus
        ");
    }
}

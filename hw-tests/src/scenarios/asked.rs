//! Calls that policy leaves to the person.

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::{Line, PATIENCE, Running};
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

use super::running::{TWO_QUBES, apply, system_with};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "asked::a_person_allows_one_call_and_denies_another",
    needs: &[Need::Bulkhead],
    when: When::Always,
    from: Start::Prepared(&TWO_QUBES),
    run: a_person_allows_one_call_and_denies_another,
}];

const RULES: &str = r#""qubes.VMShell * work @anyvm ask default_target=vault","#;

/// Says where it runs, and ends with a code of its own.
const CALL: &str = "echo 'cat /proc/sys/kernel/hostname; exit 9' | \
                    qrexec-client-vm @default qubes.VMShell";

fn a_person_allows_one_call_and_denies_another(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    apply(world, &system_with("", RULES))?;

    let (call, id) = waiting(dom0, CALL)?;
    let listed = dom0.sh("bulkhead ask list")?;
    for word in [&id, "work", "qubes.VMShell", "vault"] {
        ensure!(listed.contains(word), "{listed}");
    }
    // What was not offered is no answer.
    let elsewhere = dom0.run(&["bulkhead", "ask", "allow", &id, "--target", "work"])?;
    ensure!(elsewhere.code == 1, "{elsewhere:?}");
    dom0.sh(&format!("bulkhead ask allow {id}"))?;
    let allowed = call.wait(PATIENCE)?;
    ensure!(allowed.code == 9 && allowed.out == "vault\n", "{allowed:?}");

    let (call, id) = waiting(dom0, CALL)?;
    dom0.sh(&format!("bulkhead ask deny {id}"))?;
    let denied = call.wait(PATIENCE)?;
    ensure!(denied.code == 126 && denied.out.is_empty(), "{denied:?}");
    let none = dom0.sh("bulkhead ask list")?;
    ensure!(none == "No call waits.\n", "{none}");
    Ok(())
}

/// Has `work` run `call`; the call that then waits for an answer, and its number.
pub(super) fn waiting(dom0: &dyn Line, call: &str) -> Result<(Running, String)> {
    let mut call = dom0.start(&["timeout", "100", "bulkhead", "run", "work", "--", call])?;
    call.close_input()?;
    let id = dom0.wait_until(
        r#"bulkhead ask list --json | tr -d ' \n' | sed -n 's/.*"id":\([0-9]*\).*/\1/p' | grep ."#,
        PATIENCE,
    )?;
    Ok((call, id.trim().to_owned()))
}

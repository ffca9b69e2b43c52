//! The way into dom0 itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use bulkhead_hw_tests::line::PATIENCE;
use bulkhead_hw_tests::scenario::{Need, Scenario, Start, When, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "harness::a_file_arrives_whole",
        needs: &[],
        when: When::Always,
        from: Start::Bare,
        run: a_file_arrives_whole,
    },
    Scenario {
        name: "harness::output_exit_code_and_signal_are_told",
        needs: &[],
        when: When::Always,
        from: Start::Bare,
        run: output_exit_code_and_signal_are_told,
    },
    Scenario {
        name: "harness::a_program_that_hangs_is_killed_with_what_it_started",
        needs: &[],
        when: When::Always,
        from: Start::Bare,
        run: a_program_that_hangs_is_killed,
    },
    Scenario {
        name: "harness::a_machine_is_fresh",
        needs: &[Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: a_machine_is_fresh,
    },
    Scenario {
        name: "harness::a_machine_is_fresh_again",
        needs: &[Need::Throwaway],
        when: When::Always,
        from: Start::Bare,
        run: a_machine_is_fresh,
    },
];

fn a_file_arrives_whole(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let bytes: Vec<u8> = (0..3_000_001_u32)
        .map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let at = dom0.sh("mktemp")?;
    let at = at.trim();
    dom0.put(&bytes, at)?;
    let back = dom0.sh(&format!("cksum < {at}; rm {at}"))?;
    ensure!(back.ends_with(" 3000001\n"), "{back}");
    ensure!(back.starts_with(&format!("{} ", cksum(&bytes))), "{back}");
    Ok(())
}

/// The checksum of POSIX `cksum`.
fn cksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            if crc >> 31 == 1 {
                crc << 1 ^ 0x04C1_1DB7
            } else {
                crc << 1
            }
        })
    };
    let length = bytes.len().to_le_bytes();
    let used = length
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    let all = bytes.iter().chain(length.iter().take(used));
    !all.fold(0, |crc, &byte| step(crc, byte))
}

fn output_exit_code_and_signal_are_told(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let ended = dom0.run(&["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    ensure!(
        (ended.code, &*ended.out, &*ended.err) == (7, "out\n", "err\n"),
        "{ended:?}"
    );
    let ended = dom0.run(&["sh", "-c", "kill -9 $$"])?;
    ensure!(ended.code == 137, "{ended:?}");
    let missing = dom0.run(&["/no/such/program"]);
    ensure!(
        missing.is_err() || missing.is_ok_and(|ended| ended.code == 127),
        "it started"
    );
    let mut cat = dom0.start(&["cat"])?;
    cat.write(b"there ")?;
    cat.wait_for("there", PATIENCE)?;
    cat.write(b"and back")?;
    cat.close_input()?;
    let out = cat.wait(PATIENCE)?.ok()?;
    ensure!(out == "there and back", "{out}");
    Ok(())
}

fn a_program_that_hangs_is_killed(world: &World) -> Result<()> {
    let dom0 = world.dom0();
    let mut hangs = dom0.start(&["sh", "-c", "sleep 31536 & echo started; wait"])?;
    hangs.wait_for("started", PATIENCE)?;
    hangs.kill()?;
    ensure!(hangs.wait(PATIENCE)?.code == 137, "it was not killed");
    dom0.wait_until("! pgrep -f 'sleep 3153[6]'", Duration::from_secs(20))?;
    Ok(())
}

fn a_machine_is_fresh(world: &World) -> Result<()> {
    // Run twice, and in any order: the mark that it makes is never there before.
    world
        .dom0()
        .sh("test ! -e /var/mark; echo mark > /var/mark; sync")
        .map(drop)
}

//! What is measured and what is wanted of it.

/// A benchmark program.
#[derive(Debug)]
pub(super) struct Bench {
    /// As `cargo xtask bench` calls it.
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    pub(super) target: &'static str,
    pub(super) what: &'static str,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Mark {
    /// Whose figures it is made of.
    pub(super) bench: &'static str,
    pub(super) what: &'static str,
    pub(super) wanted: &'static str,
    /// One of these has to hold; none: nothing is wanted yet.
    pub(super) limits: &'static [Limit],
    /// What is shown: `{NAME}` stands for a figure with its unit.
    pub(super) shown: &'static str,
}

/// Where a figure has to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    AtMost(&'static str, f64),
    AtLeast(&'static str, f64),
}

use Limit::{AtLeast, AtMost};

/// In the order in which they run.
pub(super) const BENCHES: &[Bench] = &[
    Bench {
        name: "plan",
        package: "bulkheadd",
        target: "plan",
        what: "from the text of a description to a plan",
    },
    Bench {
        name: "qubes",
        package: "bulkheadd",
        target: "qubes",
        what: "commands, boot and memory with qubes that run",
    },
    Bench {
        name: "call",
        package: "bulkheadd",
        target: "call",
        what: "calls between two running qubes",
    },
    Bench {
        name: "filecopy",
        package: "bulkheadd",
        target: "filecopy",
        what: "files from one running qube to another",
    },
    Bench {
        name: "relay",
        package: "bulkhead-relay",
        target: "relay",
        what: "requests through one relay, without I/O",
    },
    Bench {
        name: "gui",
        package: "bulkhead-gui",
        target: "gui",
        what: "windows of a qube on a display",
    },
    Bench {
        name: "policy",
        package: "bulkhead-policy",
        target: "decide",
        what: "decisions of the policy engine",
    },
];

/// In the order of the table.
pub(super) const MARKS: &[Mark] = &[
    Mark {
        bench: "plan",
        what: "description of 1,000 qubes to plan, new machine",
        wanted: "50 ms",
        limits: &[AtMost("plan_new_1000", 50.0)],
        shown: "{plan_new_1000}, fastest {plan_new_1000_best}",
    },
    Mark {
        bench: "plan",
        what: "the same, machine is as described",
        wanted: "50 ms",
        limits: &[AtMost("plan_same_1000", 50.0)],
        shown: "{plan_same_1000}, fastest {plan_same_1000_best}",
    },
    Mark {
        bench: "plan",
        what: "per qube of 10,000 to per qube of 1,000, new machine",
        wanted: "linear: 1.5 x at most",
        limits: &[AtMost("plan_new_growth", 1.5)],
        shown: "{plan_new_growth} ({plan_new_10000} for 10,000)",
    },
    Mark {
        bench: "plan",
        what: "the same, machine is as described",
        wanted: "linear: 1.5 x at most",
        limits: &[AtMost("plan_same_growth", 1.5)],
        shown: "{plan_same_growth} ({plan_same_10000} for 10,000)",
    },
    Mark {
        bench: "qubes",
        what: "`apply` with nothing to do, 20 running qubes",
        wanted: "100 ms",
        limits: &[AtMost("apply_nothing_p50", 100.0)],
        shown: "{apply_nothing_p50}, slowest {apply_nothing_max}",
    },
    Mark {
        bench: "qubes",
        what: "`bulkhead ls`, 100 qubes",
        wanted: "20 ms",
        limits: &[AtMost("ls_100_wall_p50", 20.0)],
        shown: "{ls_100_wall_p50}, p99 {ls_100_wall_p99}",
    },
    Mark {
        bench: "qubes",
        what: "processor time of `bulkhead ls`, 100 qubes",
        wanted: "10 ms",
        limits: &[AtMost("ls_100_cpu_p50", 10.0)],
        shown: "{ls_100_cpu_p50} (`/bin/true` {true_cpu_p50})",
    },
    Mark {
        bench: "qubes",
        what: "`bulkhead --help`",
        wanted: "10 ms",
        limits: &[AtMost("help_wall_p50", 10.0)],
        shown: "{help_wall_p50}, {help_cpu_p50} of processor time (`/bin/true` {true_wall_p50})",
    },
    Mark {
        bench: "qubes",
        what: "apply of 20 new qubes, all started",
        wanted: "none set",
        limits: &[],
        shown: "{boot_20}",
    },
    Mark {
        bench: "qubes",
        what: "`bulkheadd` resident, 20 running qubes",
        wanted: "20 MiB",
        limits: &[AtMost("daemon_resident", 20.0)],
        shown: "{daemon_resident}, {daemon_own} its own",
    },
    Mark {
        bench: "qubes",
        what: "relay resident, largest of 20",
        wanted: "4 MiB",
        limits: &[AtMost("relay_resident", 4.0)],
        shown: "{relay_resident}, {relay_own} its own",
    },
    Mark {
        bench: "qubes",
        what: "agent resident, largest of 20",
        wanted: "3 MiB",
        limits: &[AtMost("agent_resident", 3.0)],
        shown: "{agent_resident}, {agent_own} its own",
    },
    Mark {
        bench: "call",
        what: "a call between qubes, p50",
        wanted: "2 x a spawn of `/bin/true`",
        limits: &[AtMost("call_to_spawn", 2.0)],
        shown: "{call_to_spawn} ({call_p50} to {spawn_p50})",
    },
    Mark {
        bench: "call",
        what: "the same by a program that runs already, p50",
        wanted: "none set",
        limits: &[],
        shown: "{own_call_to_spawn} ({own_call_p50})",
    },
    Mark {
        bench: "call",
        what: "a call between qubes, p99",
        wanted: "10 ms",
        limits: &[AtMost("call_p99", 10.0)],
        shown: "{call_p99} (spawn {spawn_p99})",
    },
    Mark {
        bench: "call",
        what: "bulk data, caller to service",
        wanted: "1 GiB/s or 80 % of a socket",
        limits: &[AtLeast("bulk_in", 1024.0), AtLeast("bulk_in_share", 80.0)],
        shown: "{bulk_in}, {bulk_in_share} of a socket's {socket}",
    },
    Mark {
        bench: "call",
        what: "bulk data, service to caller",
        wanted: "1 GiB/s or 80 % of a socket",
        limits: &[AtLeast("bulk_out", 1024.0), AtLeast("bulk_out_share", 80.0)],
        shown: "{bulk_out}, {bulk_out_share} of a socket's {socket}",
    },
    Mark {
        bench: "filecopy",
        what: "file copy, 256 MiB, tmpfs",
        wanted: "600 MiB/s",
        limits: &[AtLeast("tmpfs_large", 600.0)],
        shown: "{tmpfs_large}, fastest {tmpfs_large_best}",
    },
    Mark {
        bench: "filecopy",
        what: "file copy, 256 MiB, disk",
        wanted: "600 MiB/s",
        limits: &[AtLeast("disk_large", 600.0)],
        shown: "{disk_large}, fastest {disk_large_best}",
    },
    Mark {
        bench: "filecopy",
        what: "file copy, 10,000 x 1 KiB, tmpfs",
        wanted: "100 ms and start",
        limits: &[AtMost("tmpfs_small", 100.0)],
        shown: "{tmpfs_small}, fastest {tmpfs_small_best}, and start {tmpfs_start}; \
                creating them {tmpfs_plain}: {tmpfs_small_to_plain}",
    },
    Mark {
        bench: "filecopy",
        what: "file copy, 10,000 x 1 KiB, disk",
        wanted: "100 ms and start",
        limits: &[AtMost("disk_small", 100.0)],
        shown: "{disk_small}, fastest {disk_small_best}, and start {disk_start}; creating them \
                {disk_plain}, flushed {disk_plain_flushed}: {disk_small_to_plain}",
    },
    Mark {
        bench: "relay",
        what: "calls a second that one relay asks and refuses",
        wanted: "none set",
        limits: &[],
        shown: "{calls_a_second}",
    },
    Mark {
        bench: "gui",
        what: "a change of 200x200 in 1920x1080 to the screen, p50",
        wanted: "4 ms",
        limits: &[AtMost("damage_p50", 4.0)],
        shown: "{damage_p50}, p99 {damage_p99}",
    },
    Mark {
        bench: "gui",
        what: "the proxy's part of that, p50",
        wanted: "none set",
        limits: &[],
        shown: "{proxy_p50}, p99 {proxy_p99}",
    },
    Mark {
        bench: "gui",
        what: "1920x1080 all changing, 60 a second",
        wanted: "one core, both ends",
        limits: &[AtMost("animation_processor", 100.0)],
        shown: "{pictures} at {animation_processor}, {animation_proxy} of it the proxy's",
    },
    Mark {
        bench: "gui",
        what: "wakes of agent and proxy in 3 s, a window shown and nothing to do",
        wanted: "none",
        limits: &[AtMost("idle_wakes", 0.0)],
        shown: "{idle_wakes}",
    },
    Mark {
        bench: "gui",
        what: "proxy resident, without windows",
        wanted: "12 MiB",
        limits: &[AtMost("gui_resident", 12.0)],
        shown: "{gui_resident}",
    },
    Mark {
        bench: "policy",
        what: "policy decisions a second, 1,000 rules",
        wanted: "none set",
        limits: &[],
        shown: "{mixed_1000} mixed, {denied_1000} denied",
    },
];

//! The engine against the plain evaluator of its tests, over rules, machines and calls that the
//! input spells out.
#![no_main]

#[path = "../../policy/tests/plain/mod.rs"]
mod plain;

use bulkhead_policy::{QubeView, Request, SystemView};
use libfuzzer_sys::fuzz_target;
use uuid::Uuid;

const NAMES: [&str; 7] = ["work", "mail", "vault", "base", "spare", "far", "relay"];
const KEYWORDS: [&str; 24] = [
    "*",
    "@anyvm",
    "@adminvm",
    "@default",
    "@dispvm",
    "@tag:a",
    "@tag:b",
    "@type:AppVM",
    "@type:AdminVM",
    "@type:RemoteVM",
    "@dispvm:base",
    "@dispvm:spare",
    "@dispvm:ghost",
    "@dispvm:@tag:a",
    "@dispvm:@tag:b",
    "dom0",
    plain::DOM0_UUID,
    "@dispvm:work",
    "@dispvm:uuid:00000000-0000-4000-8000-000000000003",
    "ghost",
    "uuid:00000000-0000-4000-8000-000000000000",
    "uuid:00000000-0000-4000-8000-000000000001",
    "uuid:00000000-0000-4000-8000-000000000005",
    "uuid:nonsense",
];

/// Reads choices off the input; what is missing is zero.
struct Choose<'a>(&'a [u8]);

impl Choose<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn of<'b>(&mut self, list: &[&'b str]) -> &'b str {
        list[usize::from(self.byte()) % list.len()]
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.byte() % count == 1
    }

    fn word(&mut self) -> &'static str {
        if self.one_in(2) {
            self.of(&NAMES)
        } else {
            self.of(&KEYWORDS)
        }
    }
}

fn rule(choose: &mut Choose<'_>) -> String {
    let service = choose.of(&["s.A", "s.B", "*"]);
    let argument = choose.of(&["*", "+", "+x", "*"]);
    let argument = if service == "*" { "*" } else { argument };
    let (source, target) = (choose.word(), choose.word());
    let action = choose.of(&["allow", "ask", "deny"]);
    let mut line = format!("{service} {argument} {source} {target} {action}");
    if action != "deny" {
        if choose.one_in(4) {
            line += &format!(" target={}", choose.word());
        }
        if choose.one_in(4) {
            line += choose.of(&[" autostart=no", " autostart=yes"]);
        }
    }
    if action == "ask" && choose.one_in(3) {
        line += &format!(" default_target={}", choose.word());
    }
    if choose.one_in(3) {
        line += choose.of(&[" notify=no", " notify=yes"]);
    }
    line
}

fn qube(name: &'static str, number: u128, choose: &mut Choose<'_>) -> QubeView {
    let flags = choose.byte();
    let uuid = Uuid::from_u128(0x4000_8000_0000_0000_0000 + number);
    let is = |bit: u8| flags & (1 << bit) != 0;
    let tags = [("a", is(0)), ("b", is(1))];
    let mut view = QubeView {
        tags: (tags.iter().filter(|(_, has)| *has))
            .map(|(tag, _)| (*tag).into())
            .collect(),
        running: is(2),
        internal: is(3) && is(4),
        template_for_dispvms: is(5) || name == "base",
        default_dispvm: match choose.of(&["base", "-", "ghost", "work", "spare", "", "@x"]) {
            "-" => None,
            base => Some(base.into()),
        },
        ..QubeView::new(name, uuid, "AppVM")
    };
    if name == "far" || is(6) && is(7) {
        let given = |word: &str| (word != "-").then(|| word.into());
        view.class = "RemoteVM".into();
        view.relayvm = given(choose.of(&["relay", "work", "ghost", "", "-", "dom0"]));
        view.transport_rpc = given(choose.of(&["t.T", "", "-"]));
    }
    view
}

fuzz_target!(|data: &[u8]| {
    let mut choose = Choose(data);
    let mut qubes = vec![QubeView::dom0()];
    for (name, number) in NAMES.into_iter().zip(0..) {
        qubes.push(qube(name, number, &mut choose));
    }
    let mut lines: Vec<String> = (0..choose.byte() % 16).map(|_| rule(&mut choose)).collect();
    // A word where it may not stand is the parser's affair.
    lines.retain(|line| plain::parse(std::slice::from_ref(line)).is_some());
    let engine = plain::parse(&lines).expect("each line parses");
    let view = SystemView::exactly(qubes.clone()).expect("names and uuids differ");
    for _ in 0..4 {
        let request = Request {
            service: choose.of(&["s.A", "s.B", "s.C"]),
            argument: choose.of(&["+", "+x", "+xy"]),
            source: choose.word(),
            target: choose.word(),
            requested_source: if choose.one_in(6) { choose.word() } else { "" },
        };
        let machine = plain::Machine(&qubes);
        assert_eq!(
            plain::engine(&engine, &request, &view),
            plain::decide(engine.rules(), &request, &machine),
            "{request:?} by\n{}",
            lines.join("\n")
        );
    }
});

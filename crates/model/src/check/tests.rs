//! One case for each thing that is refused, with what is said.

use std::path::Path;

use super::*;
use crate::diagnostic::Diagnostics;
use crate::load::load;
use crate::source::MemoryReader;

/// A system of a network qube, a disposable template, and `qubes`.
fn system(qubes: &str) -> String {
    format!(
        r#"(
    defaults: (template: "debian"),
    templates: {{"debian": (source: Host)}},
    qubes: {{
        "net": (label: "red", provides_network: true),
        "disp": (kind: DisposableTemplate, label: "red"),
        "base": (kind: Template, label: "black", template: "debian"),
        {qubes}
    }},
)"#
    )
}

fn check_qubes(qubes: &str) -> Result<crate::load::Loaded, Diagnostics> {
    let reader = MemoryReader::new([("system.ron", system(qubes))]);
    load(Path::new("system.ron"), &reader)
}

/// The message, what it points at, and the help of each error.
#[track_caller]
fn refused(qubes: &str) -> String {
    let text = system(qubes);
    let found = check_qubes(qubes).expect_err("accepted");
    let mut out = String::new();
    for error in &found.list {
        let (start, end) = error.place.as_ref().unwrap().span;
        let source = &text[start as usize..end as usize];
        out.push_str(&format!("{} @ {source}\n", error.message));
        for help in &error.help {
            out.push_str(&format!("  help: {help}\n"));
        }
    }
    out
}

#[track_caller]
fn accepted(qubes: &str) {
    if let Err(found) = check_qubes(qubes) {
        panic!("{}", found.render(crate::diagnostic::Color::Never));
    }
}

#[test]
fn a_template_is_an_image_or_a_template_qube() {
    accepted(r#""a": (label: "red", template: "base")"#);
    accepted(r#""a": (kind: Standalone, label: "red", template: "base")"#);
    accepted(r#""a": (kind: Standalone, label: "red", virt_mode: Hvm)"#);
    insta::assert_snapshot!(refused(r#""a": (label: "red", template: "net")"#), @r#"
    `net` cannot be the template of `a`: it is an app qube @ "net"
      help: use the template of `net`, or give `net` `kind: Template`
    "#);
    insta::assert_snapshot!(refused(r#""a": (label: "red", template: "disp")"#), @r#"
    `disp` cannot be the template of `a`: it is a disposable template @ "disp"
      help: use the template of `disp`; if `a` is to keep nothing, give it `kind: NamedDisposable`
    "#);
    insta::assert_snapshot!(refused(r#""a": (label: "red", template: "bas")"#), @r#"template of `a` is `bas`, which does not exist, did you mean `base`? @ "bas""#);
    insta::assert_snapshot!(refused(r#""a": (kind: Template, label: "red", template: "base")"#), @r#"
    `base` cannot be the template of `a`: it is a template @ "base"
      help: a template's own root starts as an image from `templates`, not as a qube
    "#);
    insta::assert_snapshot!(refused(r#""a": (kind: Standalone, label: "red")"#), @r#"
    qube `a` has no template @ "a"
      help: add `template`, with a name from `templates`
    "#);
}

#[test]
fn a_named_disposable_starts_from_a_disposable_template() {
    accepted(r#""a": (kind: NamedDisposable, label: "red", template: "disp")"#);
    insta::assert_snapshot!(refused(r#""a": (kind: NamedDisposable, label: "red", template: "debian")"#), @r#"
    `debian` cannot be the template of `a`: it is a template image @ "debian"
      help: a named disposable starts from a qube of kind `DisposableTemplate`
    "#);
    insta::assert_snapshot!(refused(r#""a": (kind: NamedDisposable, label: "red")"#), @r#"
    qube `a` has no template @ "a"
      help: add `template`, with a qube of kind `DisposableTemplate`
    "#);
}

#[test]
fn what_serves_a_qube_must_offer_it() {
    accepted(r#""a": (label: "red", netvm: "net", default_dispvm: "disp")"#);
    accepted(r#""a": (label: "red", audiovm: "b"), "b": (label: "red", provides_audio: true)"#);
    insta::assert_snapshot!(refused(
        r#""a": (label: "red", netvm: "b", audiovm: "b", guivm: "b", default_dispvm: "b", management_dispvm: "disp"),
           "b": (label: "red")"#,
    ), @r#"
    `b` cannot be the netvm of `a`: `b` does not provide it @ "b"
      help: add `provides_network: true` to it
    `b` cannot be the audiovm of `a`: `b` does not provide it @ "b"
      help: add `provides_audio: true` to it
    `b` cannot be the guivm of `a`: `b` does not provide it @ "b"
      help: add `provides_gui: true` to it
    `b` cannot be the default_dispvm of `a`: it is an app qube @ "b"
      help: a qube of kind `DisposableTemplate` is needed
    `disp` cannot be the management_dispvm of `a`: `disp` does not provide it @ "disp"
      help: add `provides_management: true` to it
    "#);
    insta::assert_snapshot!(refused(r#""a": (label: "red", netvm: "nett", default_dispvm: "debian")"#), @r#"
    netvm of `a` is `nett`, which does not exist, did you mean `net`? @ "nett"
    default_dispvm of `a` is `debian`, which does not exist @ "debian"
      help: it is a template image; a qube is needed here
    "#);
}

#[test]
fn network_cannot_come_from_itself() {
    insta::assert_snapshot!(refused(r#""a": (label: "red", provides_network: true, netvm: "a")"#), @r#"
    `a` is its own netvm @ "a"
      help: one of them has no netvm: the qube that holds the network device says `netvm: None`
    "#);
    insta::assert_snapshot!(refused(
        r#""a": (label: "red", provides_network: true, netvm: "b"),
           "b": (label: "red", provides_network: true, netvm: "c"),
           "c": (label: "red", provides_network: true, netvm: "b")"#,
    ), @r#"
    the network of `b` comes from itself: b -> c -> b @ "c"
      help: one of them has no netvm: the qube that holds the network device says `netvm: None`
    "#);
}

#[test]
fn a_cycle_among_very_many_is_found_once() {
    let link = |from: usize, to: usize| {
        format!(r#""q{from}": (label: "red", provides_network: true, netvm: "q{to}"),"#)
    };
    let chain: String = (0..3000).map(|n| link(n, (n + 1) % 3000)).collect();
    let found = check_qubes(&chain).unwrap_err();
    assert_eq!(found.list.len(), 1);
    assert!(found.list[0].related.len() < 10);
}

#[test]
fn memory_starts_below_its_bound() {
    accepted(r#""a": (label: "red", memory: (initial: 8000))"#);
    accepted(r#""a": (label: "red", memory: (initial: 8000, maximum: None))"#);
    accepted(r#""a": (label: "red", memory: (initial: 400, maximum: 400))"#);
    insta::assert_snapshot!(refused(r#""a": (label: "red", memory: (initial: 401, maximum: 400))"#), @r#"
    `a` starts with 401 MiB of memory, more than its maximum of 400 MiB @ 400
      help: `maximum` is at least `initial`; `maximum: None` makes them the same
    "#);
}

#[test]
fn names_that_a_guest_reads_fit_its_store() {
    let service = |length: usize| {
        format!(
            r#""a": (label: "red", services: {{"{}": true}})"#,
            "s".repeat(length)
        )
    };
    accepted(&service(SERVICE_NAME_MAX));
    assert!(refused(&service(SERVICE_NAME_MAX + 1)).contains("a guest cannot read"));
    assert!(
        refused(r#""a": (label: "red", services: {"a/b": true})"#).contains("a guest cannot read")
    );

    let feature = |name: String, value: usize| {
        format!(
            r#""a": (label: "red", features: {{"{name}": "{}"}})"#,
            "v".repeat(value)
        )
    };
    let config = |length: usize| format!("vm-config.{}", "c".repeat(length));
    accepted(&feature(config(VM_CONFIG_NAME_MAX), FEATURE_VALUE_MAX));
    assert!(refused(&feature(config(VM_CONFIG_NAME_MAX + 1), 1)).contains("a guest cannot read"));
    assert!(
        refused(&feature("x".to_owned(), FEATURE_VALUE_MAX + 1)).contains("a value of 3072 bytes")
    );
    accepted(&feature("f".repeat(FEATURE_NAME_MAX), 1));
    assert!(refused(&feature("f".repeat(FEATURE_NAME_MAX + 1), 1)).contains("not allowed"));
    insta::assert_snapshot!(refused(r#""a": (label: "red", features: {"service.cups": "1", "vm-config.1": "", "a b": ""})"#), @r#"
    feature `a b` of `a` has a name that is not allowed @ {"service.cups": "1", "vm-config.1": "", "a b": ""}
      help: 1 to 255 visible ASCII characters are allowed
    feature `service.cups` of `a` is a service @ {"service.cups": "1", "vm-config.1": "", "a b": ""}
      help: write `services: {"cups": true}`
    feature `vm-config.1` of `a` has a name that a guest cannot read @ {"service.cups": "1", "vm-config.1": "", "a b": ""}
      help: behind `vm-config.` stands a letter, then letters, digits, `_`, `.`, `:`, `@`, `-`; at most 52 in all
    "#);
}

#[test]
fn devices_are_class_backend_and_ident() {
    accepted(
        r#""a": (label: "red", virt_mode: Hvm, devices: ["pci:dom0:00_14.0", "block:net:sda"])"#,
    );
    insta::assert_snapshot!(refused(r#""a": (label: "red", devices: ["pci:00", "gpu:dom0:1", "usb:nett:1-1", "pci:dom0:00_14.0"])"#), @r#"
    device `pci:00` of `a` is not `class:backend:ident` @ ["pci:00", "gpu:dom0:1", "usb:nett:1-1", "pci:dom0:00_14.0"]
      help: for example "pci:dom0:00_14.0"
    device `gpu:dom0:1` of `a` is of an unknown class @ ["pci:00", "gpu:dom0:1", "usb:nett:1-1", "pci:dom0:00_14.0"]
      help: classes are block, mic, pci, usb
    device `usb:nett:1-1` of `a` comes from `nett`, which does not exist @ ["pci:00", "gpu:dom0:1", "usb:nett:1-1", "pci:dom0:00_14.0"]
      help: the middle part names a qube, or dom0
    `a` has PCI device `pci:dom0:00_14.0`, which a `Pvh` qube cannot use @ ["pci:00", "gpu:dom0:1", "usb:nett:1-1", "pci:dom0:00_14.0"]
      help: add `virt_mode: Hvm` or `virt_mode: Pv`
    "#);
}

#[test]
fn the_ident_of_a_device_is_one() {
    insta::assert_snapshot!(refused(r#""a": (label: "red", virt_mode: Pv, devices: ["block:dom0:.._x", "pci:dom0:00_20.0"])"#), @r#"
    device `block:dom0:.._x` of `a` is not `class:backend:ident` @ ["block:dom0:.._x", "pci:dom0:00_20.0"]
      help: for example "pci:dom0:00_14.0"
    device `pci:dom0:00_20.0` of `a` is no address of a PCI device @ ["block:dom0:.._x", "pci:dom0:00_20.0"]
      help: for example "pci:dom0:00_14.0"
    "#);
}

#[test]
fn texts_are_what_they_are_used_as() {
    let user = |length: usize| {
        format!(
            r#""a": (label: "red", default_user: "{}")"#,
            "u".repeat(length)
        )
    };
    accepted(&user(USER_NAME_MAX));
    assert!(refused(&user(USER_NAME_MAX + 1)).contains("cannot be the user"));
    let options = |length: usize| {
        format!(
            r#""a": (label: "red", kernelopts: "{}")"#,
            "k".repeat(length)
        )
    };
    accepted(&options(KERNELOPTS_MAX));
    assert!(refused(&options(KERNELOPTS_MAX + 1)).contains("cannot be passed"));
    let tag = |length: usize| format!(r#""a": (label: "red", tags: ["{}"])"#, "t".repeat(length));
    accepted(&tag(crate::resolve::catalog::WORD_MAX));
    assert!(refused(&tag(crate::resolve::catalog::WORD_MAX + 1)).contains("is no tag"));
    insta::assert_snapshot!(refused(
        r#""a": (label: "red", default_user: "Root", kernelopts: "a\nb", kernel: "../x", tags: ["", "a b"])"#,
    ), @r#"
    `Root` cannot be the user of `a` @ "Root"
      help: small letters, digits, `_` and `-` are allowed, a letter first, at most 32
    kernelopts of `a` cannot be passed to a kernel @ "a\nb"
      help: at most 1024 printable ASCII characters are allowed
    `../x` of `a` is no name of a kernel @ "../x"
      help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first
    `` of `a` is no tag @ ["", "a b"]
      help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first
    `a b` of `a` is no tag @ ["", "a b"]
      help: letters, digits, `_`, `.` and `-` are allowed, at most 63 of them, and no `-` or `.` first
    "#);
}

#[test]
fn a_template_does_not_route_for_others() {
    insta::assert_snapshot!(refused(r#""a": (kind: Template, label: "red", template: "debian", provides_network: true)"#), @r#"
    template `a` provides network @ true
      help: make an app qube from it, and let that one provide network
    "#);
}

#[test]
fn numbers_and_sizes_have_bounds() {
    use crate::decode::scalar::SIZE_MAX;
    let with = |property: &str| format!(r#""a": (label: "red", {property})"#);
    accepted(&with("vcpus: 128, shutdown_timeout: 3600"));
    let volume = |size: u64| with(&format!(r#"volumes: {{"private": (size: {size})}}"#));
    accepted(&volume(SIZE_MAX.0));
    assert!(refused(&volume(SIZE_MAX.0 + 1)).contains("out of range"));
    insta::assert_snapshot!(refused(&with("vcpus: 129")), @r#"
    129 is out of range @ 129
      help: from 1 to 128 is allowed
    "#);
    accepted(&with("vcpus: 4, maxvcpus: 4"));
    accepted(&with("vcpus: 4, maxvcpus: None"));
    insta::assert_snapshot!(refused(&with("vcpus: 5, maxvcpus: 4")), @r"
    `a` has 5 vcpus, more than its `maxvcpus` of 4 @ 4
      help: `maxvcpus` is at least `vcpus`; `maxvcpus: None` makes them the same
    ");
    insta::assert_snapshot!(refused(&with("maxvcpus: 129")), @r"
    129 is out of range @ 129
      help: from 1 to 128 is allowed
    ");
    insta::assert_snapshot!(refused(&with("shutdown_timeout: 3601")), @r#"
    3601 is out of range @ 3601
      help: from 1 to 3600 is allowed
    "#);
    insta::assert_snapshot!(refused(&with(r#"volumes: {"private": (size: 0, revisions_to_keep: 101)}"#)), @r#"
    this size is out of range @ 0
      help: from 1 MiB to 1024 TiB is allowed
    101 is out of range @ 101
      help: from 0 to 100 is allowed
    "#);
    insta::assert_snapshot!(refused(&with(r#"memory: (initial: "2GB", maximum: "99999999999999999999999999 TiB")"#)), @r#"
    this is not a size @ "2GB"
      help: write a number of MiB, or a text such as "400 MiB", "2 GiB", "1 TiB"
    this size is out of range @ "99999999999999999999999999 TiB"
      help: from 1 MiB to 1024 TiB is allowed
    "#);
}

#[test]
fn volumes_are_those_that_a_kind_has() {
    accepted(
        r#""a": (kind: Template, label: "red", template: "debian", volumes: {"root": (size: "20 GiB")})"#,
    );
    insta::assert_snapshot!(refused(r#""a": (label: "red", volumes: {"root": (size: 1), "privat": (size: 1)})"#), @r#"
    qube `a` has no volume `root` @ "root"
      help: a qube of kind App has `private`
    qube `a` has no volume `privat` @ "privat"
      help: a qube of kind App has `private`
    "#);
    insta::assert_snapshot!(refused(
        r#""a": (kind: NamedDisposable, label: "red", template: "disp", volumes: {"private": (size: 1)})"#,
    ), @r#"
    qube `a` has no volume `private` @ "private"
      help: a named disposable keeps no volume
    "#);
}

#[test]
fn a_label_must_exist() {
    insta::assert_snapshot!(refused(r#""a": (label: "gren"), "b": (label: "mauve"), "c": ()"#), @r#"
    qube `a` has label `gren`, which does not exist, did you mean `green`? @ "gren"
    qube `b` has label `mauve`, which does not exist @ "mauve"
    qube `c` has no label @ "c"
      help: add `label: "red"`, or another label that shows how far it is trusted
    "#);
}

#[test]
fn what_many_inherit_is_told_once() {
    let reader = |count: usize| {
        let names = (1..=count).map(|n| format!(r#""q{n}": (label: "red"),"#));
        let qubes = names.collect::<String>();
        let text = format!(
            r#"(
    defaults: (template: "debian", memory: (initial: 500, maximum: 300)),
    templates: {{"debian": (source: Host)}},
    qubes: {{{qubes}}},
)"#
        );
        MemoryReader::new([("system.ron", text)])
    };
    let notes = |count| {
        let found = load(Path::new("system.ron"), &reader(count)).unwrap_err();
        assert_eq!(found.list.len(), 1);
        assert_eq!(found.list[0].related.len(), 1);
        found.list[0].notes.join("; ")
    };
    assert_eq!(notes(1), "");
    assert_eq!(notes(3), "also inherited by `q2`, `q3`");
    assert_eq!(
        notes(8),
        "also inherited by `q2`, `q3`, `q4`, `q5`, `q6` and 2 more"
    );
}

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;

use super::*;

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn device(root: &Path, address: &str, class: &str, id: (&str, &str), driver: Option<&str>) {
    let home = format!("sys/devices/pci0000:00/{address}");
    put(root, &format!("{home}/class"), class);
    put(root, &format!("{home}/vendor"), id.0);
    put(root, &format!("{home}/device"), id.1);
    if let Some(driver) = driver {
        symlink(
            format!("../../../bus/pci/drivers/{driver}"),
            root.join(home).join("driver"),
        )
        .unwrap();
    }
    let all = root.join("sys/bus/pci/devices");
    fs::create_dir_all(&all).unwrap();
    symlink(
        format!("../../../devices/pci0000:00/{address}"),
        all.join(address),
    )
    .unwrap();
}

/// A laptop, before anything is installed on it.
fn laptop(root: &Path) {
    for (path, content) in [
        ("sys/class/dmi/id/sys_vendor", "LENOVO\n"),
        ("sys/class/dmi/id/product_name", "21HES0AB00\n"),
        ("sys/class/dmi/id/product_version", "ThinkPad X1\n"),
        ("sys/class/dmi/id/product_serial", "PF0SECRET\n"),
        ("sys/class/dmi/id/bios_vendor", "To Be Filled By O.E.M.\n"),
        ("sys/class/dmi/id/bios_version", "N3XET50W\n"),
        (
            "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
            "\u{6}\0\0\0\u{1}",
        ),
        ("sys/firmware/acpi/tables/DMAR", ""),
        ("sys/class/iommu/dmar0/x", ""),
        ("sys/class/tpm/tpm0/tpm_version_major", "2\n"),
        ("sys/power/state", "freeze mem disk\n"),
        ("sys/power/mem_sleep", "[s2idle]\n"),
        ("sys/devices/system/cpu/online", "0-7\n"),
        ("proc/sys/kernel/osrelease", "6.12.48\n"),
        (
            "proc/meminfo",
            "MemTotal:       16243404 kB\nMemFree: 1 kB\n",
        ),
        (
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Some  Core\nmicrocode\t: 0x411c\nflags\t\t: fpu vmx ept\n",
        ),
        ("usr/share/misc/pci.ids", "8086  Intel\n\t51f0  Wi-Fi\n"),
        (
            "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/bInterfaceClass",
            "03\n",
        ),
        (
            "sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/bInterfaceProtocol",
            "01\n",
        ),
        (
            "sys/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/bInterfaceClass",
            "08\n",
        ),
    ] {
        put(root, path, content);
    }
    let intel = |device| ("0x8086\n", device);
    device(
        root,
        "0000:00:02.0",
        "0x030000\n",
        intel("0xa7a0"),
        Some("i915"),
    );
    device(
        root,
        "0000:00:14.0",
        "0x0c0330\n",
        intel("0x51ed"),
        Some("xhci_hcd"),
    );
    device(root, "0000:00:14.3", "0x028000\n", intel("0x51f0"), None);
    device(root, "0000:00:1f.0", "0x060100\n", intel("0x519d"), None);
    device(
        root,
        "0000:04:00.0",
        "0x010802\n",
        ("0x144d\n", "0xa80a\n"),
        Some("nvme"),
    );
    put(root, "sys/devices/pci0000:00/0000:00:14.0/reset", "");
    let usb = root.join("sys/bus/usb/devices");
    fs::create_dir_all(&usb).unwrap();
    for (port, name) in [("1-2", "1-2:1.0"), ("1-3", "1-3:1.0")] {
        let to = format!("../../../devices/pci0000:00/0000:00:14.0/usb1/{port}/{name}");
        symlink(to, usb.join(name)).unwrap();
    }
}

fn verdicts(report: &Report) -> String {
    let lines = report.verdicts.iter().map(|verdict| {
        let Verdict {
            topic, level, says, ..
        } = verdict;
        format!("{topic:?} {level:?}: {says}\n")
    });
    lines.collect()
}

#[test]
fn a_machine_without_xen_is_judged_by_what_it_says_itself() {
    let dir = tempfile::tempdir().unwrap();
    laptop(dir.path());
    let report = Report::read(&Tree::at(dir.path()), &Asked::default());
    insta::assert_snapshot!(verdicts(&report), @r"
    Virtualisation Works: qubes can be PVH and HVM domains
    Paging Works: memory of domains is mapped by hardware
    Iommu Works: a device given to a qube reaches the memory of that qube alone
    Memory Works: 15862 MiB
    Tpm Works: TPM 2.0
    Suspend Fails: only s2idle, which Xen does not have: a closed lid saves no power
    Graphics Works: 1 device
    Network Limited: 1 device; cannot be reset: 0000:00:14.3
    Usb Limited: the controller has a keyboard: a qube for USB could type in your name
    Storage Works: 1 controller
    ");
    insta::assert_snapshot!(serde_json::to_string_pretty(&report.machine).unwrap(), @r#"
    {
      "vendor": "LENOVO",
      "product": "21HES0AB00",
      "version": "ThinkPad X1",
      "firmware": {
        "kind": "uefi",
        "vendor": null,
        "version": "N3XET50W",
        "date": null,
        "secure_boot": true
      }
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&report.devices).unwrap(), @r#"
    [
      {
        "address": "0000:00:02.0",
        "kind": "graphics",
        "id": "8086:a7a0",
        "name": null,
        "driver": "i915",
        "can_reset": false
      },
      {
        "address": "0000:00:14.0",
        "kind": "usb",
        "id": "8086:51ed",
        "name": null,
        "driver": "xhci_hcd",
        "can_reset": true
      },
      {
        "address": "0000:00:14.3",
        "kind": "network",
        "id": "8086:51f0",
        "name": "Intel Wi-Fi",
        "driver": null,
        "can_reset": false
      },
      {
        "address": "0000:04:00.0",
        "kind": "storage",
        "id": "144d:a80a",
        "name": null,
        "driver": "nvme",
        "can_reset": false
      }
    ]
    "#);
    assert_eq!(report.processor.model.as_deref(), Some("Some Core"));
    assert_eq!(report.usb_keyboards.len(), 1);
}

#[test]
fn nothing_of_one_machine_alone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    laptop(dir.path());
    put(dir.path(), "proc/sys/kernel/hostname", "PF0SECRET\n");
    put(dir.path(), "sys/class/dmi/id/product_uuid", "PF0SECRET\n");
    let report = Report::read(&Tree::at(dir.path()), &Asked::default());
    let told = serde_json::to_string(&report).unwrap();
    assert!(told.contains("LENOVO"), "it tells something");
    assert!(!told.contains("SECRET"), "{told}");
}

#[test]
fn below_xen_only_xen_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    laptop(dir.path());
    for (path, content) in [
        ("sys/hypervisor/type", "xen\n"),
        ("sys/hypervisor/version/major", "4\n"),
        ("sys/hypervisor/version/minor", "20\n"),
        ("sys/hypervisor/version/extra", ".1\n"),
        (
            "sys/hypervisor/properties/capabilities",
            "xen-3.0-x86_64 hvm-3.0-x86_64 \n",
        ),
    ] {
        put(dir.path(), path, content);
    }
    let tree = Tree::at(dir.path());
    let alone = Report::read(&tree, &Asked::default());
    let hypervisor = alone.hypervisor.unwrap();
    assert_eq!(hypervisor.version.as_deref(), Some("4.20.1"));
    let Virtualisation { hvm, hap, iommu } = alone.virtualisation;
    assert_eq!(
        [hvm, hap, iommu],
        [Known::Yes, Known::Unknown, Known::Unknown]
    );
    let asked = Asked {
        hvm: Some(false),
        hap: Some(true),
        iommu: Some(false),
        memory: Some(4096),
        ..Asked::default()
    };
    let asked = Report::read(&tree, &asked);
    insta::assert_snapshot!(verdicts(&asked), @r"
    Virtualisation Fails: no hardware virtualisation: only PV domains, whose isolation is weaker
    Paging Works: memory of domains is mapped by hardware
    Iommu Fails: no IOMMU: a qube with a device could read and change all memory
    Memory Limited: 4096 MiB: few qubes run at once
    Tpm Works: TPM 2.0
    Suspend Fails: only s2idle, which Xen does not have: a closed lid saves no power
    Graphics Works: 1 device
    Network Limited: 1 device; without IOMMU no qube can have one safely
    Usb Limited: the controller has a keyboard: a qube for USB could type in your name
    Storage Works: 1 controller
    ");
}

#[test]
fn an_empty_machine_has_every_verdict_and_no_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let report = Report::read(&Tree::at(dir.path()), &Asked::default());
    insta::assert_snapshot!(verdicts(&report), @r"
    Virtualisation Unknown: nothing says if domains can be PVH
    Paging Unknown: nothing says if there is hardware-assisted paging
    Iommu Unknown: nothing says if there is an IOMMU
    Memory Unknown: nothing says how much there is
    Tpm Limited: no TPM: what booted cannot be measured
    Suspend Fails: it cannot suspend to memory
    Graphics Fails: no graphics: there is nothing to show windows on
    Network Limited: no network device: what is attached by USB needs a qube for USB
    Usb Works: no controllers
    Storage Unknown: no controller on PCI
    ");
}

#[test]
fn each_controller_with_a_keyboard_is_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    laptop(dir.path());
    let level = |root| {
        let report = Report::read(&Tree::at(root), &Asked::default());
        let usb = report.verdicts.into_iter().find(|v| v.topic == Topic::Usb);
        usb.unwrap().level
    };
    assert_eq!(level(dir.path()), Level::Limited);
    device(
        dir.path(),
        "0000:05:00.0",
        "0x0c0330\n",
        ("0x8086", "0x1"),
        None,
    );
    put(dir.path(), "sys/devices/pci0000:00/0000:05:00.0/reset", "");
    assert_eq!(level(dir.path()), Level::Works);
}

proptest! {
    #[test]
    fn any_content_of_any_file_is_read(content in proptest::collection::vec(any::<u8>(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        laptop(dir.path());
        for path in [
            "proc/cpuinfo",
            "proc/meminfo",
            "sys/power/state",
            "sys/devices/system/cpu/online",
            "sys/class/tpm/tpm0/tpm_version_major",
            "sys/devices/pci0000:00/0000:00:02.0/class",
            "sys/devices/pci0000:00/0000:00:02.0/vendor",
            "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        ] {
            fs::write(dir.path().join(path), &content).unwrap();
        }
        let report = Report::read(&Tree::at(dir.path()), &Asked::default());
        prop_assert_eq!(report.verdicts.len(), 10);
    }
}

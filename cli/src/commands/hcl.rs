//! `bulkhead hcl`.

use bulkhead_api::from_json;
use bulkhead_api::host::{HostMachine, HostReport};
use bulkhead_hardware::{Asked, FirmwareKind, Level, Report, Tree, Verdict};

use crate::args::{Global, HclArgs};
use crate::client::with_client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::style::{self, Paint};
use crate::output::table::{Align, Cell, Look, Table};
use crate::output::text::line;
use crate::output::{print, print_json};

pub(crate) fn hcl(global: &Global, args: &HclArgs) -> Result<Exit, Failure> {
    let tree = Tree::at("/");
    let mut report = Report::read(&tree, &Asked::default());
    let mut alone = None;
    // Elsewhere the kernel shows all that there is.
    if report
        .hypervisor
        .as_ref()
        .is_some_and(|it| it.name == "xen")
        || global.socket.is_some()
    {
        match ask(global) {
            Ok(told) => report = Report::read(&tree, &told.map(asked).unwrap_or_default()),
            Err(failure) if global.socket.is_some() => return Err(failure),
            Err(failure) => alone = Some(failure),
        }
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&tell(&report, style::stdout()))?;
    }
    if let Some(failure) = alone {
        failure.show();
        return Ok(Exit::Partly);
    }
    Ok(Exit::Done)
}

/// What the daemon's hypervisor knows of the machine.
fn ask(global: &Global) -> Result<Option<HostMachine>, Failure> {
    with_client(global, |client| async move {
        let told: HostReport = from_json(&client.proxy.host().await?)?;
        Ok(told.machine)
    })
}

fn asked(machine: HostMachine) -> Asked {
    let HostMachine {
        version,
        hvm,
        hap,
        iommu,
        memory,
        threads,
    } = machine;
    Asked {
        version: Some(version),
        hvm: Some(hvm),
        hap: Some(hap),
        iommu: Some(iommu),
        memory: Some(memory),
        threads: Some(threads),
    }
}

fn tell(report: &Report, paint: Paint) -> String {
    let mut out = String::new();
    for (name, value) in facts(report) {
        let value = if value.is_empty() { "not told" } else { &value };
        out.push_str(&format!(
            "{} {}\n",
            paint.strong(&format!("{name:<11}")),
            line(value)
        ));
    }
    if !report.devices.is_empty() {
        out.push('\n');
        out.push_str(&devices(report).render(paint));
    }
    out.push('\n');
    let mut said = None;
    for verdict in &report.verdicts {
        judge(&mut out, verdict, paint);
        // What helps against several things is said once, below the first.
        if let Some(remedy) = verdict.remedy.as_ref().filter(|it| said != Some(*it)) {
            out.push_str(&format!("{:25}{}\n", "", paint.dim(&line(remedy))));
            said = Some(remedy);
        }
    }
    out
}

/// What is there, joined by commas.
fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let there: Vec<_> = parts.into_iter().flatten().collect();
    there.join(", ")
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let machine = &report.machine;
    let named = [&machine.vendor, &machine.product, &machine.version];
    let firmware = &machine.firmware;
    let kind = match firmware.kind {
        FirmwareKind::Bios => "BIOS",
        FirmwareKind::Uefi => "UEFI",
    };
    let signed = firmware.secure_boot.map(|on| if on { "on" } else { "off" });
    let processor = &report.processor;
    let hypervisor = report.hypervisor.as_ref();
    vec![
        ("Machine", joined(named.map(Clone::clone))),
        (
            "Firmware",
            joined([
                Some(kind.to_owned()),
                firmware.vendor.clone(),
                firmware.version.clone(),
                firmware.date.clone(),
                signed.map(|signed| format!("secure boot {signed}")),
            ]),
        ),
        (
            "Processor",
            joined([
                processor.model.clone(),
                processor
                    .threads
                    .map(|threads| format!("{threads} threads")),
                processor
                    .microcode
                    .as_ref()
                    .map(|it| format!("microcode {it}")),
            ]),
        ),
        (
            "Memory",
            joined([report.memory.map(|mib| format!("{mib} MiB"))]),
        ),
        (
            "Hypervisor",
            hypervisor.map_or_else(
                || "none".to_owned(),
                |it| joined([Some(it.name.clone()), it.version.clone()]),
            ),
        ),
        ("Kernel", joined([report.kernel.clone()])),
    ]
}

fn devices(report: &Report) -> Table {
    let left = |name| (name, Align::Left);
    let mut table = Table::new(&[
        left("KIND"),
        left("ADDRESS"),
        left("ID"),
        left("DRIVER"),
        left("RESET"),
        left("NAME"),
    ]);
    for device in &report.devices {
        table.row(vec![
            format!("{:?}", device.kind).to_lowercase().into(),
            device.address.as_str().into(),
            device.id.as_str().into(),
            Cell::or_dash(device.driver.as_deref().unwrap_or_default()),
            if device.can_reset {
                "yes".into()
            } else {
                Cell::new("no", Look::Changed)
            },
            Cell::or_dash(device.name.as_deref().unwrap_or_default()),
        ]);
    }
    table
}

fn judge(out: &mut String, verdict: &Verdict, paint: Paint) {
    let level = match verdict.level {
        Level::Works => paint.added("works  "),
        Level::Limited => paint.changed("limited"),
        Level::Fails => paint.removed("fails  "),
        Level::Unknown => paint.dim("unknown"),
    };
    let topic = format!("{:?}", verdict.topic).to_lowercase();
    out.push_str(&format!("{level}  {topic:<14}  {}\n", line(&verdict.says)));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn put(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn facts_devices_and_verdicts_have_their_parts() {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("sys/class/dmi/id/sys_vendor", "QEMU"),
            ("sys/class/dmi/id/product_name", "Standard \u{1b}[31mPC"),
            ("sys/hypervisor/type", "xen"),
            ("proc/cpuinfo", "model name : Virtual CPU\n"),
            ("sys/bus/pci/devices/0000:00:02.0/class", "0x020000"),
            ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086"),
            ("sys/bus/pci/devices/0000:00:02.0/device", "0x100e"),
        ] {
            put(dir.path(), path, content);
        }
        let asked = asked(HostMachine {
            version: "4.20.1".into(),
            hvm: true,
            hap: true,
            iommu: false,
            memory: 8192,
            threads: 4,
        });
        let report = Report::read(&Tree::at(dir.path()), &asked);
        insta::assert_snapshot!(tell(&report, Paint::NEVER), @r"
        Machine     QEMU, Standard �[31mPC
        Firmware    BIOS
        Processor   Virtual CPU, 4 threads
        Memory      8192 MiB
        Hypervisor  xen, 4.20.1
        Kernel      not told

        KIND     ADDRESS       ID         DRIVER  RESET  NAME
        network  0000:00:02.0  8086:100e  -       no     -

        works    virtualisation  qubes can be PVH and HVM domains
        works    paging          memory of domains is mapped by hardware
        fails    iommu           no IOMMU: a qube with a device could read and change all memory
                                 Look for it in the firmware's settings (VT-x, SVM, VT-d, AMD-Vi): it is often off.
        works    memory          8192 MiB
        limited  tpm             no TPM: what booted cannot be measured
                                 Look for it in the firmware's settings (TPM, PTT, fTPM).
        fails    suspend         it cannot suspend to memory
        fails    graphics        no graphics: there is nothing to show windows on
        limited  network         1 device; without IOMMU no qube can have one safely
        works    usb             no controllers
        unknown  storage         no controller on PCI
        ");
    }
}

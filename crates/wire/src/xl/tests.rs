use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::relay::{PACKET_MAX, decode, encode};

fn path(length: usize) -> HostPath {
    HostPath::new(format!("/{}", "p".repeat(length - 1))).unwrap()
}

fn disk(letter: char, length: usize) -> Disk {
    Disk {
        vdev: Vdev::new(format!("xvd{letter}")).unwrap(),
        path: path(length),
        access: Access::ReadOnly,
        backend: DomId::DOM0,
        sole: true,
    }
}

fn nic(id: u64, backend: u64) -> Nic {
    Nic {
        id: NicId::new(id).unwrap(),
        mac: MacAddress::new([0, 0x16, 0x3e, 0x5e, 0x6c, 7]).unwrap(),
        backend: DomId::new(backend).unwrap(),
        ip: Some([10, 137, 0, 9].into()),
    }
}

fn config() -> DomainConfig {
    DomainConfig {
        domid: DomId::new(7).unwrap(),
        uuid: DomainUuid([9; 16]),
        name: DomainName::new("work").unwrap(),
        mode: Mode::Pvh(Kernel {
            path: path(9),
            ramdisk: None,
            cmdline: Cmdline::new("quiet").unwrap(),
        }),
        memory: Mib::new(400).unwrap(),
        maximum: Mib::new(4000).unwrap(),
        vcpus: Vcpus::new(2).unwrap(),
        vcpus_maximum: Vcpus::new(4).unwrap(),
        weight: Weight::default(),
        disks: vec![disk('a', 9), disk('b', 9)],
        nics: vec![nic(0, 3), nic(1, 3)],
        pci: Vec::new(),
        initial: Initial::Running,
    }
}

#[track_caller]
fn wrong(change: impl FnOnce(&mut DomainConfig)) -> String {
    let mut config = config();
    assert_eq!(config.check(), Ok(()));
    change(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn only_a_pvh_domain_boots_with_all_processors_it_may_come_to_have() {
    let mut config = config();
    let (now, most) = (config.vcpus, config.vcpus_maximum);
    assert!(now < most);
    assert_eq!(config.vcpus_at_boot(), most);
    let Mode::Pvh(kernel) = config.mode.clone() else {
        panic!("it is PVH");
    };
    for mode in [Mode::Pv(kernel.clone()), Mode::Hvm(Some(kernel))] {
        config.mode = mode;
        assert_eq!(config.vcpus_at_boot(), now);
    }
}

#[test]
fn each_mistake_in_a_configuration_is_named() {
    let one_more = Mib::new(4001).unwrap();
    let five = Vcpus::new(5).unwrap();
    let cases = [
        wrong(|c| c.domid = DomId::DOM0),
        wrong(|c| c.memory = Mib::new(0).unwrap()),
        wrong(|c| c.memory = one_more),
        wrong(|c| c.vcpus = five),
        wrong(|c| c.disks[1] = c.disks[0].clone()),
        wrong(|c| c.disks[1].backend = c.domid),
        wrong(|c| c.nics[1].id = c.nics[0].id),
        wrong(|c| c.nics[1].backend = DomId::DOM0),
        wrong(|c| c.nics[1].backend = c.domid),
        wrong(|c| c.pci = vec![pci(1)]),
        wrong(|c| (c.mode, c.pci) = (pv("x"), vec![pci(1), pci(2), pci(1)])),
    ];
    assert_eq!(
        cases,
        [
            "a new domain cannot be domain 0",
            "a domain needs memory",
            "4001 MiB at start are more than the maximum of 4000 MiB",
            "5 processors at start are more than the maximum of 4",
            "there are two disks `xvda`",
            "a device leads to the domain itself",
            "there are two network interfaces 0",
            "network interface 1 leads to domain 0, which has no network",
            "a device leads to the domain itself",
            "only a PV domain can have PCI device 0000:00:01.0",
            "PCI device 0000:00:01.0 is there twice",
        ]
    );
}

fn pci(device: u8) -> PciAddress {
    PciAddress::new(0, device / 32, device % 32, 0).unwrap()
}

fn pv(cmdline: &str) -> Mode {
    Mode::Pv(Kernel {
        path: path(9),
        ramdisk: None,
        cmdline: Cmdline::new(cmdline).unwrap(),
    })
}

#[test]
fn a_pci_address_ends_at_its_limits() {
    assert_eq!(
        PciAddress::new(0xffff, 0xff, 31, 7).unwrap().to_string(),
        "ffff:ff:1f.7"
    );
    assert!(PciAddress::new(0, 0, 32, 0).is_err());
    assert!(PciAddress::new(0, 0, 0, 8).is_err());
}

#[test]
fn one_device_past_the_limit_is_refused() {
    let disks = |n: u8| (0..n).map(|i| disk((b'a' + i).into(), 9)).collect();
    let nics = |n| (0..n).map(|i| nic(i, 3)).collect();
    let mut full = config();
    full.disks = disks(16);
    full.nics = nics(8);
    (full.mode, full.pci) = (pv("x"), (0..32).map(pci).collect());
    assert_eq!(full.pci.len(), PCI_MAX);
    assert_eq!(
        (full.disks.len(), full.nics.len(), full.check()),
        (DISKS_MAX, NICS_MAX, Ok(()))
    );
    assert_eq!(wrong(|c| c.disks = disks(17)), "17 disks are more than 16");
    assert_eq!(
        wrong(|c| c.nics = nics(9)),
        "9 network interfaces are more than 8"
    );
    assert_eq!(
        wrong(|c| (c.mode, c.pci) = (pv("x"), (0..33).map(pci).collect())),
        "33 PCI devices are more than 32"
    );
}

#[test]
fn pv_domains_have_shorter_command_lines() {
    let pv = |length| {
        let mut config = config();
        config.mode = pv(&"x".repeat(length));
        config.check()
    };
    assert_eq!(pv(PV_CMDLINE_MAX), Ok(()));
    assert_eq!(pv(PV_CMDLINE_MAX + 1), Err(ConfigError::PvCmdline(1024)));
}

#[test]
fn an_hvm_domain_has_something_to_boot_from() {
    let mut config = config();
    config.mode = Mode::Hvm(None);
    assert_eq!(config.check(), Ok(()));
    config.disks.clear();
    assert_eq!(config.check(), Err(ConfigError::NothingToBoot));
    config.mode = Mode::Hvm(Some(Kernel {
        path: path(9),
        ramdisk: None,
        cmdline: Cmdline::new("").unwrap(),
    }));
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn numbers_end_at_their_limits() {
    assert!(DomId::new(0x7FEF).is_ok() && DomId::new(0x7FF0).is_err());
    let most = u64::from(MIB_MAX);
    assert!(Mib::new(most).is_ok() && Mib::new(most + 1).is_err());
    let most = u64::from(VCPUS_MAX);
    assert!(Vcpus::new(most).is_ok() && Vcpus::new(most + 1).is_err());
    assert!(Vcpus::new(0).is_err() && Weight::new(0).is_err());
    assert!(Weight::new(65_535).is_ok() && Weight::new(65_536).is_err());
    assert_eq!(
        NicId::new(32).unwrap_err().to_string(),
        "network interface 32 is not in 0..=31"
    );
}

#[test]
fn a_number_out_of_bounds_is_no_message() {
    let packet = encode(&(0x7FF0_u64, [0_u8; 16])).unwrap();
    assert!(decode::<Target>(&packet).is_err());
    let packet = encode(&(0x7FEF_u64, [0_u8; 16])).unwrap();
    assert!(decode::<Target>(&packet).is_ok());
}

#[test]
fn texts_end_at_their_limits() {
    let name = |n| DomainName::new("a".repeat(n));
    assert!(name(NAME_MAX).is_ok() && name(NAME_MAX + 1).is_err());
    let path = |n| HostPath::new(format!("/{}", "a".repeat(n)));
    assert!(path(PATH_MAX - 1).is_ok() && path(PATH_MAX).is_err());
    let cmdline = |n| Cmdline::new("a".repeat(n));
    assert!(cmdline(CMDLINE_MAX).is_ok());
    assert_eq!(
        cmdline(CMDLINE_MAX + 1).unwrap_err().to_string(),
        "kernel command line of 2048 bytes is longer than 2047"
    );
}

#[test]
fn texts_have_their_forms() {
    for bad in ["", "1a", "a b", "a/b", "a\0", "é", "-a"] {
        assert!(DomainName::new(bad).is_err(), "{bad}");
    }
    for bad in ["", "a", "./a", "/a\nb", "/a\0b"] {
        assert!(HostPath::new(bad).is_err(), "{bad}");
    }
    for bad in ["a\nb", "a\0"] {
        assert!(Cmdline::new(bad).is_err(), "{bad}");
    }
    for good in ["xvda", "xvdz", "xvda1", "xvdc15"] {
        assert!(Vdev::new(good).is_ok(), "{good}");
    }
    for bad in [
        "", "xvd", "xvd1", "xvdA", "xvda0", "xvda01", "xvda16", "xvdaa", "sda", "xvda+1",
    ] {
        assert!(Vdev::new(bad).is_err(), "{bad}");
    }
    assert_eq!(
        Vdev::new("sd\0").unwrap_err().to_string(),
        r"`sd\0` is no disk name (xvda to xvdz15)"
    );
}

#[test]
fn addresses_are_of_one_station() {
    assert!(MacAddress::new([0; 6]).is_err());
    assert_eq!(
        MacAddress::new([1, 0, 0x5e, 0, 0, 1])
            .unwrap_err()
            .to_string(),
        "`01:00:5e:00:00:01` is no address of a network interface"
    );
    let mac = MacAddress::new([0, 0x16, 0x3e, 0, 0, 1]).unwrap();
    assert_eq!(mac.to_string(), "00:16:3e:00:00:01");
}

#[test]
fn uuids_are_read_as_they_are_written() {
    let text = "01234567-89ab-cdef-0123-456789abcdef";
    let uuid: DomainUuid = text.parse().unwrap();
    assert_eq!(uuid.0[..3], [0x01, 0x23, 0x45]);
    assert_eq!(uuid.to_string(), text);
    for bad in [
        "",
        "0123456789abcdef0123456789abcdef",
        &text.to_uppercase(),
        &text[1..],
    ] {
        assert!(bad.parse::<DomainUuid>().is_err(), "{bad}");
    }
}

#[test]
fn the_largest_messages_fit_a_packet() {
    let mut config = config();
    config.disks = (b'a'..b'q').map(|c| disk(c.into(), PATH_MAX)).collect();
    config.nics = (0..8).map(|i| nic(i, 3)).collect();
    config.mode = Mode::Pvh(Kernel {
        path: path(PATH_MAX),
        ramdisk: Some(path(PATH_MAX)),
        cmdline: Cmdline::new("x".repeat(CMDLINE_MAX)).unwrap(),
    });
    assert_eq!(config.check(), Ok(()));
    let operation = Operation::Create(Box::new(config));
    let id = RequestId(u64::MAX);
    encode(&ToXl::Request { id, operation }).unwrap();

    let info = DomainInfo {
        target: Target {
            domid: DomId::new(0x7FEF).unwrap(),
            uuid: DomainUuid([255; 16]),
        },
        name: "n".repeat(SHOWN_NAME_MAX),
        origin: Origin::Foreign,
        state: State::Ended,
        memory: Mib::new(MIB_MAX.into()).unwrap(),
        maximum: Mib::new(MIB_MAX.into()).unwrap(),
        vcpus: u32::MAX,
        cpu_time_ns: u64::MAX,
    };
    let answer = Answer::Domains {
        domains: vec![info; DOMAINS_MAX],
        next: Some(DomId::DOM0),
    };
    let result = Ok(answer);
    assert!(encode(&FromXl::Done { id, result }).unwrap().len() < PACKET_MAX / 2);

    let error = XlError {
        operation: OperationKind::Create,
        domid: None,
        failure: Failure::Busy,
        log: vec!["l".repeat(LOG_LINE_MAX); LOG_LINES_MAX],
    };
    let result = Err(error);
    encode(&FromXl::Done { id, result }).unwrap();
}

#[test]
fn errors_say_what_was_done_and_why() {
    let said = |failure: Failure| {
        let error = XlError {
            operation: OperationKind::AttachDisk,
            domid: Some(DomId::new(7).unwrap()),
            failure,
            log: Vec::new(),
        };
        let source = std::error::Error::source(&error).unwrap();
        format!("{error}: {source}")
    };
    let vdev = Vdev::new("xvdi").unwrap();
    let why = "its backend is in state 1".to_owned();
    assert_eq!(
        said(Failure::Disk { vdev, why }),
        "cannot attach a disk to domain 7: disk `xvdi` is not served: its backend is in state 1"
    );
    let late = Failure::Nic {
        nic: NicId::new(0).unwrap(),
        backend: DomId::new(3).unwrap(),
        why: "it has no driver".to_owned(),
    };
    assert_eq!(
        said(late),
        "cannot attach a disk to domain 7: domain 3 does not serve network interface 0: it has no \
         driver"
    );
    assert_eq!(
        said(Failure::Libxl(LibxlCode::from_number(-9))),
        "cannot attach a disk to domain 7: libxl says ERROR_TIMEDOUT"
    );
    assert_eq!(LibxlCode::from_number(-77).to_string(), "error -77");
}

prop_compose! {
    fn any_config()(
        (domid, uuid, memory, maximum) in (0..0x7FF0_u64, any::<[u8; 16]>(), 0..=1_u64 << 24, 0..=1_u64 << 24),
        (name, kernel, cmdline) in ("[a-zA-Z][a-zA-Z0-9_.-]{0,30}", "/[a-z/]{0,40}", "[ -~]{0,80}"),
        (vcpus, vcpus_maximum, weight) in (1..=128_u64, 1..=128_u64, 1..=65_535_u64),
        disks in vec(("xvd[a-z]", "/[ -~]{0,20}", 0..0x7FF0_u64), 0..20),
        nics in vec((0..32_u64, 0..0x7FF0_u64), 0..20),
        kind in 0..4,
    ) -> DomainConfig {
        let (path, cmdline) = (HostPath::new(kernel).unwrap(), Cmdline::new(cmdline).unwrap());
        let ramdisk = (kind == 1).then(|| path.clone());
        DomainConfig {
            domid: DomId::new(domid).unwrap(),
            uuid: DomainUuid(uuid),
            name: DomainName::new(name).unwrap(),
            mode: match kind {
                0 => Mode::Pvh(Kernel { path, ramdisk, cmdline }),
                1 => Mode::Pv(Kernel { path, ramdisk, cmdline }),
                2 => Mode::Hvm(Some(Kernel { path, ramdisk, cmdline })),
                _ => Mode::Hvm(None),
            },
            memory: Mib::new(memory).unwrap(),
            maximum: Mib::new(maximum).unwrap(),
            vcpus: Vcpus::new(vcpus).unwrap(),
            vcpus_maximum: Vcpus::new(vcpus_maximum).unwrap(),
            weight: Weight::new(weight).unwrap(),
            disks: disks.into_iter().map(|(vdev, path, backend)| Disk {
                vdev: Vdev::new(vdev).unwrap(),
                path: HostPath::new(path).unwrap(),
                access: Access::ReadWrite,
                backend: DomId::new(backend).unwrap(),
                sole: kind == 0,
            }).collect(),
            nics: nics.into_iter().map(|(id, backend)| nic(id, backend)).collect(),
            pci: Vec::new(),
            initial: Initial::Paused,
        }
    }
}

proptest! {
    #[test]
    fn what_is_sent_arrives(config in any_config(), id in any::<u64>()) {
        let operation = Operation::Create(Box::new(config));
        let message = ToXl::Request { id: RequestId(id), operation };
        let packet = encode(&message).unwrap();
        prop_assert_eq!(decode::<ToXl>(&packet).unwrap(), message);
    }

    #[test]
    fn what_passes_the_check_keeps_its_promises(config in any_config()) {
        if config.check().is_ok() {
            prop_assert!(config.domid != DomId::DOM0 && config.memory <= config.maximum);
            prop_assert!(config.vcpus <= config.vcpus_maximum);
            prop_assert!(config.nics.iter().all(|nic| nic.backend != DomId::DOM0));
            prop_assert!(config.disks.len() <= DISKS_MAX && config.nics.len() <= NICS_MAX);
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = decode::<ToXl>(&bytes) {
            let packet = encode(&message).unwrap();
            prop_assert_eq!(decode::<ToXl>(&packet).unwrap(), message);
        }
    }

    #[test]
    fn uuids_read_back(bytes in any::<[u8; 16]>()) {
        let uuid = DomainUuid(bytes);
        prop_assert_eq!(uuid.to_string().parse::<DomainUuid>().unwrap(), uuid);
    }
}

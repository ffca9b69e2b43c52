//! The smallest kernel that Xen boots: it says its command line and waits.
//!
//! An ELF file for 32 bits with the note by which Xen finds the entry of a PVH kernel
//! (`xen/include/public/elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`). What it says, byte by byte to port
//! 0xe9, Xen prints into its own log.

/// Where it is loaded, and entered.
const AT: u32 = 0x10_0000;

/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const ENTRY: u32 = 18;

const HEADER: u32 = 52;
const SEGMENT: u32 = 32;

/// Entered with the address of `struct hvm_start_info` in `ebx`.
#[rustfmt::skip]
const CODE: &[u8] = &[
    0x8b, 0x73, 0x18,       // mov esi, [ebx + 24]   its command line
    0x66, 0xba, 0xe9, 0x00, // mov dx, 0xe9
    0xac,                   // lodsb
    0x84, 0xc0,             // test al, al
    0x74, 0x03,             // jz over the next two
    0xee,                   // out dx, al
    0xeb, 0xf8,             // jmp to lodsb
    0xb0, 0x0a,             // mov al, '\n'
    0xee,                   // out dx, al
    0xfb,                   // sti                   halted without it, it would have ended
    0xf4,                   // hlt
    0xeb, 0xfc,             // jmp to sti
];

/// The file.
pub fn kernel() -> Vec<u8> {
    let note: Vec<u8> = [4, 4, ENTRY]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .chain(*b"Xen\0")
        .chain(AT.to_le_bytes())
        .collect();
    let sizes = [CODE.len(), note.len()].map(|len| u32::try_from(len).unwrap_or_default());
    let [code, notes] = sizes;
    let first = HEADER + 2 * SEGMENT;
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    // An executable for the 386.
    file.extend([2u16, 3].into_iter().flat_map(u16::to_le_bytes));
    file.extend([1, AT, HEADER, 0, 0].into_iter().flat_map(u32::to_le_bytes));
    let rest: [u16; 6] = [52, 32, 2, 0, 0, 0];
    file.extend(rest.into_iter().flat_map(u16::to_le_bytes));
    // PT_LOAD, to be read and run; PT_NOTE, behind it.
    let load = [1, first, AT, AT, code, code, 5, 4];
    let noted = [4, first + code, 0, 0, notes, notes, 4, 4];
    file.extend(load.into_iter().chain(noted).flat_map(u32::to_le_bytes));
    file.extend_from_slice(CODE);
    file.extend(note);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_sizes_that_they_say() {
        let file = kernel();
        let headers = usize::try_from(HEADER + 2 * SEGMENT).unwrap();
        assert_eq!(file.len(), headers + CODE.len() + 20);
        assert_eq!(&file[headers..headers + CODE.len()], CODE);
        assert_eq!(&file[file.len() - 4..], AT.to_le_bytes());
    }
}

//! Numbers in bodies.

/// The first `N` numbers of a body whose length was checked; what is not there is 0.
pub(super) fn read<const N: usize>(body: &[u8]) -> [u32; N] {
    let mut fields = [0; N];
    for (field, bytes) in fields.iter_mut().zip(body.as_chunks().0) {
        *field = u32::from_le_bytes(*bytes);
    }
    fields
}

/// Writes numbers.
pub(super) fn write(out: &mut Vec<u8>, fields: &[u32]) {
    for field in fields {
        out.extend_from_slice(&field.to_le_bytes());
    }
}

//! What the targets share.

/// Cuts `data` into a step between 1 and 256 and the rest, so that the fuzzer also chooses how a
/// stream arrives.
pub fn stepped(data: &[u8]) -> Option<(usize, &[u8])> {
    let (step, rest) = data.split_first()?;
    Some((usize::from(*step) + 1, rest))
}

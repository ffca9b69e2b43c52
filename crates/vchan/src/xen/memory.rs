//! Memory that another domain can write at any time.
//!
//! It is only ever touched by atomic loads and stores, so that no view of it outlives a look at
//! it: what was read is a copy, and reading twice may give two answers. The same code runs over
//! ordinary memory in tests.

#![expect(
    unsafe_code,
    reason = "mapped pages are reached by pointers; this module checks every offset"
)]

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::device::{Access, Mapping};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Bytes that are copied at a time.
const WORD: usize = 8;

/// Bytes that are copied at a time from memory to memory: a pixel.
pub(crate) const HALF: usize = 4;

/// Whole pages of shared memory. A clone is the same memory.
#[derive(Clone)]
pub struct Region {
    base: NonNull<AtomicU64>,
    bytes: usize,
    _keep: Keep,
}

/// What keeps the memory where it is.
#[derive(Clone)]
#[expect(dead_code, reason = "it is held and never looked at")]
enum Keep {
    Mapped(Arc<Mapping>),
    Ordinary(Arc<[AtomicU64]>),
}

// SAFETY: the memory is only touched by atomics, and lives as long as `_keep`, which can be sent.
unsafe impl Send for Region {}
// SAFETY: as above; every method takes `&self` and works by atomics.
unsafe impl Sync for Region {}

impl Region {
    /// Ordinary memory, all zero: for tests of both ends in one process.
    #[must_use]
    pub fn ordinary(pages: usize) -> Self {
        let words: Arc<[AtomicU64]> = (0..pages * PAGE / WORD)
            .map(|_| AtomicU64::new(0))
            .collect();
        Self {
            base: NonNull::from(&*words).cast(),
            bytes: pages * PAGE,
            _keep: Keep::Ordinary(words),
        }
    }

    /// Pages that were mapped.
    pub(super) fn mapped(mapping: Mapping) -> Self {
        Self {
            base: mapping.base().cast(),
            bytes: mapping.len(),
            _keep: Keep::Mapped(Arc::new(mapping)),
        }
    }

    /// The first `pages` of a file. Who maps a file that may become shorter is killed by looking
    /// at what is gone; who maps it for reading only, by writing.
    pub(crate) fn of_file(file: &OwnedFd, pages: usize, access: Access) -> io::Result<Self> {
        Ok(Self::mapped(Mapping::new(file, pages * PAGE, 0, access)?))
    }

    /// The same memory without its first page; empty if it has no more.
    #[must_use]
    pub fn after_first_page(&self) -> Self {
        let skipped = PAGE.min(self.bytes);
        Self {
            // SAFETY: not beyond the end of the one allocation at `base`.
            base: unsafe { self.base.byte_add(skipped) },
            bytes: self.bytes - skipped,
            _keep: self._keep.clone(),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is none of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Where a `T` is.
    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.bytes) && offset.is_multiple_of(align_of::<T>()),
            "offset {offset} is not in shared memory of {} bytes",
            self.bytes
        );
        // SAFETY: the offset was just checked to be inside of the one allocation at `base`.
        unsafe { self.base.cast::<u8>().add(offset).cast() }
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If it is outside.
    #[must_use]
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        // SAFETY: `at` checks bounds and alignment; `_keep` outlives the reference; any bits are
        // a valid value, and whoever else has the memory only makes it change.
        unsafe { self.at(offset).as_ref() }
    }

    /// The two bytes at `offset`.
    ///
    /// # Panics
    /// If they are outside, or not aligned.
    #[must_use]
    pub fn short(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: as in `byte`.
        unsafe { self.at(offset).as_ref() }
    }

    /// The four bytes at `offset`.
    ///
    /// # Panics
    /// If they are outside, or not aligned.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as in `byte`.
        unsafe { self.at(offset).as_ref() }
    }

    /// The words that `len` bytes from `offset` on lie in, and where in the first they begin.
    fn words(&self, offset: usize, len: usize) -> (&[AtomicU64], usize) {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "{len} bytes at {offset} are not in shared memory of {} bytes",
            self.bytes
        );
        let first = offset / WORD;
        let count = (offset % WORD + len).div_ceil(WORD);
        // SAFETY: `bytes` is whole pages, so the words that lie in its first `offset + len`
        // bytes are inside; `base` is aligned to a page or to a word; see `byte` for the rest.
        let words = unsafe { std::slice::from_raw_parts(self.base.add(first).as_ptr(), count) };
        (words, offset % WORD)
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If they are not all inside.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let (words, skip) = self.words(offset, to.len());
        let mut words = words
            .iter()
            .map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        let head = to.len().min((WORD - skip) % WORD);
        let (head, rest) = to.split_at_mut(head);
        if !head.is_empty() {
            copy_part(head, &words.next().unwrap_or_default(), skip);
        }
        let mut whole = rest.chunks_exact_mut(WORD);
        for (to, word) in whole.by_ref().zip(words.by_ref()) {
            to.copy_from_slice(&word);
        }
        let tail = whole.into_remainder();
        if !tail.is_empty() {
            copy_part(tail, &words.next().unwrap_or_default(), 0);
        }
    }

    /// The words of half the length that `len` bytes from `offset` on are.
    fn halves(&self, offset: usize, len: usize) -> &[AtomicU32] {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.bytes)
                && offset.is_multiple_of(HALF)
                && len.is_multiple_of(HALF),
            "{len} bytes at {offset} are not in shared memory of {} bytes",
            self.bytes
        );
        // SAFETY: inside and aligned, as was just checked; see `byte` for the rest.
        unsafe { std::slice::from_raw_parts(self.at(0).byte_add(offset).as_ptr(), len / HALF) }
    }

    /// Copies bytes to other memory; places and length are multiples of [`HALF`].
    ///
    /// # Panics
    /// If they are not, or not all of it is inside of both.
    pub(crate) fn copy_to(&self, offset: usize, to: &Self, at: usize, len: usize) {
        let from = self.halves(offset, len);
        for (to, from) in to.halves(at, len).iter().zip(from) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Copies bytes in. The rest of the words that they share with others is written back as it
    /// was, so only one side may write to a word.
    ///
    /// # Panics
    /// If they are not all inside.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let (words, skip) = self.words(offset, from.len());
        let mut words = words.iter();
        let head = from.len().min((WORD - skip) % WORD);
        let (head, rest) = from.split_at(head);
        if let Some(word) = (!head.is_empty()).then(|| words.next()).flatten() {
            merge(word, head, skip);
        }
        let (whole, tail) = rest.as_chunks::<WORD>();
        for (from, word) in whole.iter().zip(words.by_ref()) {
            word.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
        }
        if let (false, Some(word)) = (tail.is_empty(), words.next()) {
            merge(word, tail, 0);
        }
    }
}

fn copy_part(to: &mut [u8], word: &[u8; WORD], skip: usize) {
    for (to, from) in to.iter_mut().zip(word.iter().skip(skip)) {
        *to = *from;
    }
}

fn merge(word: &AtomicU64, from: &[u8], skip: usize) {
    let mut bytes = word.load(Ordering::Relaxed).to_ne_bytes();
    for (to, from) in bytes.iter_mut().skip(skip).zip(from) {
        *to = *from;
    }
    word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back_and_their_neighbours_stay(
            offset in 0_usize..64,
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let region = Region::ordinary(1);
            region.write(0, &[0xAA; 256]);
            region.write(offset, &bytes);
            let mut all = [0; 256];
            region.read(0, &mut all);
            let mut expected = vec![0xAA; 256];
            expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(&all[..], &expected[..]);
            let mut back = vec![0; bytes.len()];
            region.read(offset, &mut back);
            prop_assert_eq!(back, bytes);
        }
    }

    proptest! {
        #[test]
        fn what_is_copied_over_is_that_and_no_more(
            from in 0_usize..30, to in 0_usize..30, len in 0_usize..30,
        ) {
            let (a, b) = (Region::ordinary(1), Region::ordinary(1));
            let bytes: Vec<u8> = (1..=240).collect();
            a.write(0, &bytes);
            a.copy_to(from * HALF, &b, to * HALF, len * HALF);
            let mut expected = [0; 256];
            expected[to * HALF..][..len * HALF].copy_from_slice(&bytes[from * HALF..][..len * HALF]);
            let mut all = [0; 256];
            b.read(0, &mut all);
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn fields_are_where_bytes_are() {
        let region = Region::ordinary(1);
        region.write(16, &[1, 0, 2, 0, 3, 4, 5, 6]);
        assert_eq!(region.short(18).load(Ordering::Relaxed), 2);
        assert_eq!(region.byte(21).load(Ordering::Relaxed), 4);
        assert_eq!(region.word(16).load(Ordering::Relaxed), 0x0002_0001);
    }

    #[test]
    fn the_last_byte_can_be_had_and_the_next_cannot() {
        let region = Region::ordinary(1);
        region.write(PAGE - 1, &[9]);
        assert_eq!(region.byte(PAGE - 1).load(Ordering::Relaxed), 9);
        for outside in [
            || Region::ordinary(1).byte(PAGE).store(1, Ordering::Relaxed),
            || {
                Region::ordinary(1)
                    .word(PAGE - 2)
                    .store(1, Ordering::Relaxed)
            },
            || Region::ordinary(1).read(PAGE - 1, &mut [0; 2]),
            || Region::ordinary(1).write(usize::MAX, &[0; 2]),
            || Region::ordinary(1).copy_to(PAGE - HALF, &Region::ordinary(2), 0, 2 * HALF),
            || Region::ordinary(2).copy_to(0, &Region::ordinary(1), PAGE - HALF, 2 * HALF),
            || Region::ordinary(1).copy_to(2, &Region::ordinary(1), 0, HALF),
        ] as [fn(); 7]
        {
            assert!(std::panic::catch_unwind(outside).is_err());
        }
    }
}

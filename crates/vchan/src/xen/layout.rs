//! The shared page: where its fields are, and which rings it can describe.
//!
//! Source: Xen's public header `xen/io/libxenvchan.h`. All numbers are in the machine's own order
//! of bytes.

use std::sync::atomic::Ordering;

use thiserror::Error;

use super::memory::{PAGE, Region};

/// Byte that the client sets while it lives. 2 before it ever came.
pub(super) const CLIENT_LIVE: usize = 20;
/// Byte that the server sets while it lives.
pub(super) const SERVER_LIVE: usize = 21;
/// What the server wants to hear of from the client.
pub(super) const CLIENT_NOTIFY: usize = 22;
/// What the client wants to hear of from the server.
pub(super) const SERVER_NOTIFY: usize = 23;
const LEFT_ORDER: usize = 16;
const RIGHT_ORDER: usize = 18;
/// Grant references of the rings' pages, left before right.
const GRANTS: usize = 24;

/// Counters of one ring: consumed, produced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) consumed: usize,
    pub(super) produced: usize,
}

/// The ring that the client writes to.
pub(super) const LEFT: Counters = Counters {
    consumed: 0,
    produced: 4,
};
/// The ring that the server writes to.
pub(super) const RIGHT: Counters = Counters {
    consumed: 8,
    produced: 12,
};

/// Order of the smaller ring that fits into the shared page, at the offset that is its size.
const SMALL: u16 = 10;
/// Order of the larger one; likewise.
const MEDIUM: u16 = 11;
/// From this order on a ring has pages of its own.
const PAGED: u16 = 12;
/// The largest ring that the format allows: 1 MiB.
const LARGEST: u16 = 20;

/// Most pages that rings have beside the shared one.
pub const RING_PAGES_MAX: usize = 2 << (LARGEST - PAGED);

/// A grant reference: a page of one domain that it lets another map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GrantRef(pub u32);

/// How large the two rings of a channel shall at least be, in bytes. The server decides; clients
/// take what they are told by the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSizes {
    /// From client to server.
    pub left: usize,
    /// From server to client.
    pub right: usize,
}

/// Sizes that no page can describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("rings of {left} and {right} bytes are more than the 1 MiB each that the format allows")]
pub struct SizeError {
    left: usize,
    right: usize,
}

/// A shared page that describes no rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the shared page describes rings of orders {left} and {right}, which cannot be")]
pub struct LayoutError {
    left: u16,
    right: u16,
}

impl RingSizes {
    /// Most bytes of a ring.
    pub const MAX: usize = 1 << LARGEST;

    /// What reference programs ask for on control lines.
    pub const CONTROL: Self = Self::both(4096);

    /// What reference programs ask for on data channels.
    pub const DATA: Self = Self::both(64 * 1024);

    /// Rings of `bytes` in both directions.
    #[must_use]
    pub const fn both(bytes: usize) -> Self {
        Self {
            left: bytes,
            right: bytes,
        }
    }

    /// Half of it in both directions, unless that is less than a page.
    pub(super) fn halved(self) -> Option<Self> {
        let half = Self {
            left: (self.left / 2).max(PAGE),
            right: (self.right / 2).max(PAGE),
        };
        (half != self && self.left.max(self.right) > PAGE).then_some(half)
    }
}

/// Logarithms of the rings' sizes, checked: the page can hold or describe them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    left: u16,
    right: u16,
}

impl Orders {
    /// The smallest rings that are as large as asked for.
    ///
    /// # Errors
    /// [`SizeError`] above [`RingSizes::MAX`].
    pub fn choose(sizes: RingSizes) -> Result<Self, SizeError> {
        let RingSizes { left, right } = sizes;
        let (small, medium) = (1 << SMALL, 1 << MEDIUM);
        let paged = |bytes: usize| {
            let order = bytes.next_power_of_two().trailing_zeros();
            u16::try_from(order).map_or(LARGEST, |order| order.max(PAGED))
        };
        if left > RingSizes::MAX || right > RingSizes::MAX {
            return Err(SizeError { left, right });
        }
        let (left, right) = match (left, right) {
            _ if left <= small && right <= medium => (SMALL, MEDIUM),
            _ if left <= medium && right <= small => (MEDIUM, SMALL),
            _ if left <= medium => (MEDIUM, paged(right)),
            _ if right <= medium => (paged(left), MEDIUM),
            _ => (paged(left), paged(right)),
        };
        Ok(Self { left, right })
    }

    /// Checks what a page said.
    fn check(left: u16, right: u16) -> Result<Self, LayoutError> {
        let range = SMALL..=LARGEST;
        let apart = left != right || left >= PAGED;
        if range.contains(&left) && range.contains(&right) && apart {
            Ok(Self { left, right })
        } else {
            Err(LayoutError { left, right })
        }
    }

    /// Left and right, as the page says them.
    #[must_use]
    pub fn numbers(self) -> (u16, u16) {
        (self.left, self.right)
    }

    /// What [`Self::numbers`] said.
    ///
    /// # Errors
    /// [`LayoutError`] where no page can say that.
    pub fn of_numbers((left, right): (u16, u16)) -> Result<Self, LayoutError> {
        Self::check(left, right)
    }

    /// Pages that the left and the right ring have of their own.
    #[must_use]
    pub fn pages(self) -> (usize, usize) {
        let pages = |order: u16| {
            if order < PAGED {
                0
            } else {
                1 << (order - PAGED)
            }
        };
        (pages(self.left), pages(self.right))
    }

    /// The sizes in bytes.
    #[must_use]
    pub fn sizes(self) -> RingSizes {
        RingSizes {
            left: 1 << self.left,
            right: 1 << self.right,
        }
    }

    /// Where each ring lies: in the shared page at this offset, or in pages of its own.
    pub(super) fn in_page(self) -> (Option<usize>, Option<usize>) {
        let at = |order: u16| (order < PAGED).then_some(1 << order);
        (at(self.left), at(self.right))
    }
}

/// What a client learns from a shared page, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The rings.
    pub orders: Orders,
    /// Their pages, left before right.
    pub grants: Vec<GrantRef>,
}

impl Described {
    /// Writes it into a fresh page.
    pub(super) fn publish(&self, page: &Region) {
        page.short(LEFT_ORDER)
            .store(self.orders.left, Ordering::Relaxed);
        page.short(RIGHT_ORDER)
            .store(self.orders.right, Ordering::Relaxed);
        for (n, grant) in self.grants.iter().enumerate() {
            page.word(GRANTS + 4 * n).store(grant.0, Ordering::Relaxed);
        }
    }

    /// Copies it from a page that a server wrote, every number once.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn copy(page: &Region) -> Result<Self, LayoutError> {
        let left = page.short(LEFT_ORDER).load(Ordering::Acquire);
        let right = page.short(RIGHT_ORDER).load(Ordering::Acquire);
        let orders = Orders::check(left, right)?;
        let (left, right) = orders.pages();
        let grant = |n| GrantRef(page.word(GRANTS + 4 * n).load(Ordering::Relaxed));
        Ok(Self {
            orders,
            grants: (0..left + right).map(grant).collect(),
        })
    }
}

// The grants of the largest rings end inside of the page.
const _: () = assert!(GRANTS + 4 * RING_PAGES_MAX <= PAGE);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn orders(left: usize, right: usize) -> Result<(u16, u16), SizeError> {
        Orders::choose(RingSizes { left, right }).map(|orders| (orders.left, orders.right))
    }

    #[test]
    fn sizes_are_chosen_as_the_reference_does() {
        assert_eq!(orders(0, 0), Ok((10, 11)));
        assert_eq!(orders(1024, 2048), Ok((10, 11)));
        assert_eq!(orders(1025, 1024), Ok((11, 10)));
        assert_eq!(orders(2048, 2048), Ok((11, 12)));
        assert_eq!(orders(128, 8192), Ok((11, 13)));
        assert_eq!(orders(8192, 128), Ok((13, 11)));
        assert_eq!(orders(4096, 4096), Ok((12, 12)));
        assert_eq!(orders(4097, 4096), Ok((13, 12)));
        assert_eq!(orders(65536, 65536), Ok((16, 16)));
        assert_eq!(orders(1 << 20, 1 << 20), Ok((20, 20)));
        assert!(orders((1 << 20) + 1, 0).is_err() && orders(0, usize::MAX).is_err());
    }

    #[test]
    fn impossible_orders_are_refused() {
        for (left, right) in [
            (9, 12),
            (12, 9),
            (10, 10),
            (11, 11),
            (21, 12),
            (12, 21),
            (0, 0),
        ] {
            assert_eq!(Orders::check(left, right), Err(LayoutError { left, right }));
        }
        for (left, right) in [(10, 11), (11, 10), (12, 12), (11, 20), (20, 20), (10, 20)] {
            assert!(Orders::check(left, right).is_ok(), "{left} {right}");
        }
    }

    #[test]
    fn halving_ends_at_a_page() {
        let mut sizes = RingSizes::both(RingSizes::MAX);
        let mut steps = 0;
        while let Some(half) = sizes.halved() {
            (sizes, steps) = (half, steps + 1);
        }
        assert_eq!((sizes, steps), (RingSizes::both(PAGE), 8));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_enough_and_read_back(
            left in 0..=RingSizes::MAX, right in 0..=RingSizes::MAX
        ) {
            let orders = Orders::choose(RingSizes { left, right }).unwrap();
            let sizes = orders.sizes();
            prop_assert!(sizes.left >= left && sizes.right >= right);
            prop_assert_eq!(Orders::check(orders.left, orders.right), Ok(orders));
            let (l, r) = orders.pages();
            let page = Region::ordinary(1);
            let grants = (0..l + r).map(|n| GrantRef(u32::try_from(n).unwrap() + 7)).collect();
            let described = Described { orders, grants };
            described.publish(&page);
            prop_assert_eq!(Described::copy(&page), Ok(described));
        }
    }
}

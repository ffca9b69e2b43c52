//! Has the tools and headers of [`bulkhead_templates::tools`] in the cache, for builds that only look
//! there.

#![forbid(unsafe_code)]

use anyhow::Result;
use bulkhead_templates::tools::Tools;

fn main() -> Result<()> {
    Tools::find().map(drop)
}

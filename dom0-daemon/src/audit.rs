//! The log of every call decision: written as JSON lines, read by `bulkhead audit`.

//! Qubes as Linux namespaces. Not a security boundary of the strength of Xen, and says so.

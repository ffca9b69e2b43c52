//! One qrexec data connection: pumps bytes between local descriptors and a vchan.

#![forbid(unsafe_code)]

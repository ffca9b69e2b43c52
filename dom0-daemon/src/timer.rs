//! Tasks that end with what they are for.

use tokio::task::{AbortHandle, JoinHandle};

/// A task that is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Timer(AbortHandle);

impl Timer {
    pub(crate) fn of<T>(task: &JoinHandle<T>) -> Self {
        Self(task.abort_handle())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

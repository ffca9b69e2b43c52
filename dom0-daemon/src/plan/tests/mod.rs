//! What people read, and that plans do what they say on a simulated machine.

mod property;
mod text;

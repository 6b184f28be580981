//! What the functions share.

pub mod clock;
pub mod random;

//! x

pub mod circle;

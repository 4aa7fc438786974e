//! What the tests share: where things are, a host with folders of its own, and the footprint that must not grow.

pub mod command;
pub mod fixture;
pub mod footprint;

pub use fixture::{Folders, package, root};
pub use footprint::Footprint;

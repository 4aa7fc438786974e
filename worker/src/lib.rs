//! The only code that runs beside a plugin: confinement, the worker's end of its channels, and the serving loop.
//!
//! The order of a start is in [`start`]; it reads like the list of DESIGN 7. Nothing here protects the host: from the
//! moment plugin code may run, this process is as hostile as the plugin, and whatever it sends is a claim.

pub mod confine;
pub mod launcher;
pub mod link;
pub mod native;
pub mod start;

pub use confine::Confined;
pub use link::{HostCallError, Link};
pub use start::{Runtime, Reply, Started, run};

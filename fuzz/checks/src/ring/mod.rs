//! The rings, as the host sees them.

mod honest;
mod hostile;
mod memory;
mod race;

pub use honest::ring_honest;
pub use hostile::ring;
pub use race::ring_race;

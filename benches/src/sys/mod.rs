//! The only unsafe code of the benchmarks: a shared mapping and fork(2).
//!
//! None of it is hardened: both ends of every channel here are this program.

#![allow(unsafe_code, reason = "floors are raw by nature; each block says who upholds its invariant")]

pub(crate) mod fork;
pub(crate) mod mapping;

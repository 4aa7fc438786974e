//! The only unsafe code of the benchmarks: a shared mapping, fork(2), and a library loaded into this process.
//!
//! None of it is hardened: both ends of every channel here are this program. What a library loaded here does to this
//! process is what hotcell exists to prevent.

#![allow(unsafe_code, reason = "floors are raw by nature; each block says who upholds its invariant")]

pub(crate) mod fork;
pub(crate) mod library;
pub(crate) mod mapping;

//! The optional functions of a plugin: state and health.
//!
//! Their answers are claims like every reply: a plugin that says that it is healthy says so.

use hotcell_protocol::hook;

use super::Plugin;
use super::errand::{state_input, too_large};
use crate::error::CallError;

impl Plugin {
    /// Asks the plugin whether it can still serve.
    ///
    /// # Errors
    /// [`CallError::Plugin`] with its reason where it cannot; [`CallError::NoSuchExport`] where it has no health function;
    /// every other end of a call.
    pub async fn health(&self) -> Result<(), CallError> {
        self.call_raw(hook::HEALTH, Vec::new()).await.map(drop)
    }

    /// The plugin's state, at most the plan's `state` bytes: opaque, and as hostile as the plugin.
    ///
    /// # Errors
    /// The plugin failed or has no such function; the state is over the limit; every other end of a call.
    pub async fn save_state(&self) -> Result<Vec<u8>, CallError> {
        let state = self.call_raw(hook::STATE_SAVE, Vec::new()).await?;
        self.check_state(&state)?;
        Ok(state)
    }

    /// Gives the plugin a state that its version `from_version` saved.
    ///
    /// # Errors
    /// As [`Plugin::save_state`]. What the plugin holds after its own error is up to the plugin.
    pub async fn load_state(&self, from_version: u32, state: &[u8]) -> Result<(), CallError> {
        self.check_state(state)?;
        self.call_raw(hook::STATE_LOAD, state_input(from_version, state, Vec::new())).await.map(drop)
    }

    fn check_state(&self, state: &[u8]) -> Result<(), CallError> {
        let limit = self.plan().orders.limits.state;
        if state.len() as u64 <= limit { Ok(()) } else { Err(too_large(state.len(), limit)) }
    }
}

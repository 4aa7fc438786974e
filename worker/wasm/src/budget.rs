//! What a guest may allocate: one sum over all its memories and tables.
//!
//! Not what the process may use: that is RLIMIT_DATA, RLIMIT_AS and the cgroup.

use hotcell_engine::MEMORIES_MAX;
use wasmtime::{ResourceLimiter, Result};

/// Bytes that one element of a table takes in this process.
const TABLE_ELEMENT: usize = 16;

/// Core instances and tables of one component, or of a module.
const INSTANCES_MAX: usize = 256;

/// The plan's `memory`, as it is spent.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    left: usize,
    /// The step that was granted last, to be given back if wasmtime then could not take it.
    last: usize,
    refused: Option<usize>,
}

impl Budget {
    pub(crate) fn new(memory: u64) -> Budget {
        let limit = usize::try_from(memory).unwrap_or(usize::MAX);
        Budget { limit, left: limit, last: 0, refused: None }
    }

    /// Why a start failed, if the limit is why.
    pub(crate) fn refusal(&self) -> Option<String> {
        let (asked, limit) = (self.refused?, self.limit);
        Some(format!(
            "the plugin asks for {asked} bytes of memory before it runs; the limit `memory` is {limit} bytes"
        ))
    }

    fn spend(&mut self, step: usize, desired: usize) -> bool {
        let left = self.left.checked_sub(step);
        match left {
            Some(left) => (self.left, self.last) = (left, step),
            None => (self.last, self.refused) = (0, Some(desired)),
        }
        left.is_some()
    }

    fn give_back(&mut self) {
        self.left += std::mem::take(&mut self.last);
    }
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        Ok(self.spend(desired.saturating_sub(current), desired))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> Result<()> {
        self.give_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let size = |elements: usize| elements.saturating_mul(TABLE_ELEMENT);
        Ok(self.spend(size(desired.saturating_sub(current)), size(desired)))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> Result<()> {
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::ResourceLimiter;

    use super::Budget;

    #[test]
    fn several_memories_share_one_budget() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 60, None).expect("answers"));
        assert!(!budget.memory_growing(0, 60, None).expect("answers"), "60 and 60 are over 100");
        assert!(budget.memory_growing(60, 100, None).expect("answers"), "40 are left");
        assert!(!budget.table_growing(0, 1, None).expect("answers"), "nothing is left for a table");
    }

    #[test]
    fn what_wasmtime_could_not_take_is_given_back_once() {
        let mut budget = Budget::new(100);
        assert!(budget.memory_growing(0, 80, None).expect("answers"));
        for _ in 0..2 {
            budget.memory_grow_failed(wasmtime::Error::msg("no address space")).expect("answers");
        }
        assert!(budget.memory_growing(0, 100, None).expect("answers"));
        assert!(!budget.memory_growing(100, 101, None).expect("answers"));
        assert!(budget.refusal().expect("was refused").contains("101 bytes"));
    }
}

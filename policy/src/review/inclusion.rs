//! Whether every system call that some rules allow is allowed by others too: exactly, with a call that proves the contrary.
//!
//! A rule is a union of terms, and a term is all calls in which some bits are known. What of a term lies outside others
//! is found by splitting it: outside one of them means that one of its known bits differs, so each of these bits is
//! tried in turn. Each split leaves one other term behind, so the search ends, and it tries every way out.

use crate::seccomp::{Condition, Wanted};

/// Arguments of a system call.
const ARGUMENTS: usize = 6;

/// The word after the arguments: the worker's own process id, which a rule may compare an argument with.
const PID: usize = ARGUMENTS;

/// Process ids are below this on every 64-bit Linux (`PID_MAX_LIMIT`), and none is 0.
const PID_LIMIT: u64 = 1 << 22;

/// The half of an argument that the kernel looks at for an `int`.
const LOWER: u64 = 0xffff_ffff;

/// Arguments of a system call, and the process id of the worker that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The six arguments.
    pub args: [u64; 6],
    /// The worker's process id, where the rules compare with it.
    pub pid: Option<u32>,
}

/// The bits of a word that are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bits {
    mask: u64,
    /// Nothing outside the mask.
    value: u64,
}

impl Bits {
    fn new(mask: u64, value: u64) -> Bits {
        Bits { mask, value: value & mask }
    }

    fn part(self, mask: u64) -> Bits {
        Bits::new(self.mask & mask, self.value)
    }

    /// Both, unless they contradict one another.
    fn and(self, other: Bits) -> Option<Bits> {
        let agree = (self.value ^ other.value) & self.mask & other.mask == 0;
        agree.then_some(Bits { mask: self.mask | other.mask, value: self.value | other.value })
    }
}

/// All calls with these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    words: [Bits; ARGUMENTS + 1],
    /// Arguments whose lower half is the process id, one bit each; what is known of that half stands at [`PID`].
    own: u8,
    /// Arguments whose lower half is not the process id.
    foreign: u8,
}

/// Whether an argument is one of these.
fn holds(arguments: u8, index: usize) -> bool {
    index < ARGUMENTS && arguments & 1 << index != 0
}

/// One thing that a term knows.
#[derive(Clone, Copy, Debug)]
enum Known {
    Bit(usize, Bits),
    Own(usize),
}

impl Term {
    /// Every call.
    pub(crate) const ALL: Term =
        Term { words: [Bits { mask: 0, value: 0 }; ARGUMENTS + 1], own: 0, foreign: 0 };

    /// The term with more bits of an argument known; `None` if nothing is left of it.
    pub(crate) fn with(&self, index: usize, mask: u64, value: u64) -> Option<Term> {
        self.with_bits(index, Bits::new(mask, value))
    }

    /// The term where the lower half of an argument is the process id.
    pub(crate) fn with_own(&self, index: usize) -> Option<Term> {
        if holds(self.own, index) {
            return Some(*self);
        }
        if holds(self.foreign, index) {
            return None;
        }
        let lower = self.words.get(index)?.part(LOWER);
        let mut term = self.with_bits(PID, lower)?;
        let word = term.words.get_mut(index)?;
        *word = word.part(!LOWER);
        term.own |= 1 << index;
        Some(term)
    }

    fn with_bits(&self, index: usize, bits: Bits) -> Option<Term> {
        let mut term = *self;
        let (upper, lower) = if holds(self.own, index) {
            (bits.part(!LOWER), bits.part(LOWER))
        } else {
            (bits, Bits::default())
        };
        for (index, bits) in [(index, upper), (PID, lower)] {
            let word = term.words.get_mut(index)?;
            *word = word.and(bits)?;
        }
        Some(term)
    }

    fn with_foreign(&self, index: usize) -> Option<Term> {
        let foreign = Term { foreign: self.foreign | 1 << index, ..*self };
        (!holds(self.own, index)).then_some(foreign)
    }

    fn has(&self, known: Known) -> Option<Term> {
        match known {
            Known::Bit(index, bits) => self.with_bits(index, bits),
            Known::Own(index) => self.with_own(index),
        }
    }

    fn lacks(&self, known: Known) -> Option<Term> {
        match known {
            Known::Bit(index, bits) => self.with_bits(index, Bits::new(bits.mask, !bits.value)),
            Known::Own(index) => self.with_foreign(index),
        }
    }

    /// What a rule's term knows, one bit at a time.
    fn all_known(&self) -> impl Iterator<Item = Known> {
        let own = (0..ARGUMENTS).filter(|index| holds(self.own, *index)).map(Known::Own);
        let bits = self.words.iter().enumerate().flat_map(|(index, word)| {
            let set = (0..64).map(|bit| 1 << bit).filter(|bit| word.mask & bit != 0);
            set.map(move |bit| Known::Bit(index, word.part(bit)))
        });
        own.chain(bits)
    }

    /// What both hold, as far as bits tell; `None` if nothing.
    fn meet(&self, rule: &Term) -> Option<Term> {
        let mut own = (0..ARGUMENTS).filter(|index| holds(rule.own, *index));
        let term = own.try_fold(*self, |term, index| term.with_own(index))?;
        rule.words.iter().enumerate().try_fold(term, |term, (index, bits)| term.with_bits(index, *bits))
    }

    /// How many bits of a rule's term are open in this one.
    fn open(&self, rule: &Term) -> u32 {
        let open =
            rule.words.iter().zip(&self.words).map(|(rule, word)| (rule.mask & !word.mask).count_ones());
        open.sum::<u32>() + (rule.own & !self.own).count_ones()
    }

    /// One of its calls; `None` if its arguments cannot all differ from the process id as they must.
    fn call(&self) -> Option<Call> {
        let Some(index) = (0..ARGUMENTS).find(|index| holds(self.foreign, *index)) else {
            return Some(self.filled());
        };
        let settled = Term { foreign: self.foreign & !(1 << index), ..*self };
        let mut differing = (0..32).map(|bit| 1 << bit).flat_map(|bit| [(bit, bit, 0), (bit, 0, bit)]);
        differing.find_map(|(mask, argument, pid)| {
            settled.with(index, mask, argument)?.with(PID, mask, pid)?.call()
        })
    }

    /// The call whose open bits are all 0.
    fn filled(&self) -> Call {
        let value = |index: usize| self.words.get(index).map_or(0, |word| word.value);
        let own = |index| if holds(self.own, index) { value(PID) } else { 0 };
        Call {
            args: std::array::from_fn(|index| value(index) | own(index)),
            pid: u32::try_from(value(PID)).ok(),
        }
    }
}

/// The terms of a rule's conditions.
pub(crate) fn terms(conditions: &[Condition]) -> Vec<Term> {
    conditions.iter().fold(vec![Term::ALL], |terms, condition| {
        terms.iter().flat_map(|term| narrowed(term, condition)).collect()
    })
}

fn narrowed(term: &Term, condition: &Condition) -> Vec<Term> {
    let index = usize::from(condition.index);
    match &condition.wanted {
        Wanted::SelfPid => term.with_own(index).into_iter().collect(),
        Wanted::OneOf(values) => {
            values.iter().filter_map(|value| term.with(index, condition.mask, *value)).collect()
        }
    }
}

/// A call that `inner` holds and no term of `outer` does, or `None` where all of `inner` is inside `outer`.
pub(crate) fn outside(inner: &[Term], outer: &[Term]) -> Option<Call> {
    let pid_matters = inner.iter().chain(outer).any(|term| term.own != 0);
    let call = inner.iter().find_map(|term| {
        let term = term.with(PID, !(PID_LIMIT - 1), 0)?;
        let no_pid = pid_matters.then(|| Term::ALL.with(PID, u64::MAX, 0)).flatten();
        let outer: Vec<Term> = outer.iter().copied().chain(no_pid).collect();
        escape(&term, &outer)
    })?;
    Some(Call { pid: call.pid.filter(|_| pid_matters), ..call })
}

/// Whether a term and one of the others hold a call in common.
pub(crate) fn meets(term: &Term, others: &[Term]) -> bool {
    others.iter().filter_map(|other| term.meet(other)).any(|common| outside(&[common], &[]).is_some())
}

/// A call of the term that no term of `outer` holds.
fn escape(term: &Term, outer: &[Term]) -> Option<Call> {
    let mut met: Vec<Term> = outer.iter().filter(|other| term.meet(other).is_some()).copied().collect();
    met.sort_by_key(|other| term.open(other));
    if met.iter().any(|other| term.meet(other) == Some(*term)) {
        return None;
    }
    let Some((first, rest)) = met.split_first() else { return term.call() };
    let mut inside = *term;
    for known in first.all_known() {
        if let Some(call) = inside.lacks(known).and_then(|out| escape(&out, rest)) {
            return Some(call);
        }
        inside = inside.has(known)?;
    }
    None
}

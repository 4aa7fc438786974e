//! Inclusion against the programs that the kernel runs, and profiles against what manifests get under them.

#![allow(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails that way, and random bits may be cut"
)]

use hotcell_protocol::Instruction;

use super::inclusion::{Call, meets, outside, terms};
use crate::Arch;
use crate::seccomp::{
    Action, Alternative, Condition, SeccompData, SyscallSet, Table, Wanted, assemble, evaluate, for_pid,
};

/// A rule: conditions that must all hold.
type Conditions = Vec<Condition>;

const NUMBER: u32 = 42;

/// Seeded and the same on every machine (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// Few bits, so that rules meet, cover one another, and cover one another only together.
    fn mask(&mut self, full: u64) -> u64 {
        let mask = match self.below(5) {
            0 => full,
            1 => 1 << self.below(3),
            2 => 1 + self.below(7),
            3 => 0x3 << 31 | 1 << 63,
            _ => self.next(),
        } & full;
        if mask == 0 { 1 } else { mask }
    }

    fn value(&mut self, mask: u64) -> u64 {
        let value = match self.below(3) {
            0 => self.below(8),
            1 => u64::MAX,
            _ => self.next(),
        };
        value & mask
    }

    fn condition(&mut self) -> Condition {
        let index = self.below(3) as u8;
        let wide = self.below(4) == 0;
        let full = if wide { u64::MAX } else { 0xffff_ffff };
        if !wide && self.below(6) == 0 {
            return Condition { index, label: "x".to_owned(), wide, mask: full, wanted: Wanted::SelfPid };
        }
        let mask = self.mask(full);
        let values = (0..=self.below(3)).map(|_| self.value(mask)).collect();
        Condition { index, label: "x".to_owned(), wide, mask, wanted: Wanted::OneOf(values) }
    }

    fn rule(&mut self) -> Conditions {
        (0..self.below(4)).map(|_| self.condition()).collect()
    }

    fn rules(&mut self) -> Vec<Conditions> {
        (0..=self.below(5)).map(|_| self.rule()).collect()
    }

    /// Rules that hold less than others, more, or the same in other words.
    fn like(&mut self, rules: &[Conditions]) -> Vec<Conditions> {
        let mut rules = rules.to_vec();
        for _ in 0..=self.below(2) {
            let rule = self.below(rules.len() as u64) as usize;
            match self.below(4) {
                0 => rules.push(self.rule()),
                1 => {
                    let more = self.condition();
                    rules[rule].push(more);
                }
                2 => rules[rule].truncate(1),
                _ => {
                    let halves = split(&rules[rule], self.below(3) as u8, 1 << self.below(32));
                    rules.splice(rule..=rule, halves);
                }
            }
        }
        rules
    }
}

/// The same rule as two: with the bit, and without it.
fn split(rule: &Conditions, index: u8, bit: u64) -> Vec<Conditions> {
    let half = |value| {
        let wanted = Wanted::OneOf(vec![value]);
        let condition = Condition { index, label: "x".to_owned(), wide: false, mask: bit, wanted };
        rule.iter().cloned().chain([condition]).collect()
    };
    vec![half(bit), half(0)]
}

struct Program(hotcell_protocol::Filter);

impl Program {
    fn of(rules: &[Conditions]) -> Program {
        let alternatives: Vec<_> =
            rules.iter().map(|conditions| Alternative { conditions, action: Action::Allow }).collect();
        let table = Table::from([(NUMBER, alternatives)]);
        Program(assemble(Arch::X86_64, &table, Action::KillProcess).expect("is short"))
    }

    fn for_pid(&self, pid: u32) -> Vec<Instruction> {
        for_pid(&self.0, pid)
    }
}

fn allows(program: &[Instruction], args: [u64; 6]) -> bool {
    let arch = Arch::X86_64.audit();
    evaluate(program, &SeccompData { nr: NUMBER, arch, instruction_pointer: 0, args }) == Action::Allow
}

fn all_terms(rules: &[Conditions]) -> Vec<super::inclusion::Term> {
    rules.iter().flat_map(|rule| terms(rule)).collect()
}

/// Arguments that the rules' own masks and values suggest: each value, with bits outside its mask, with a bit flipped.
fn derived(random: &mut Random, rules: &[Conditions], pid: u32) -> [u64; 6] {
    let mut args = std::array::from_fn(|_| if random.below(2) == 0 { 0 } else { random.next() });
    let rule = &rules[random.below(rules.len() as u64) as usize];
    for condition in rule {
        let value = match &condition.wanted {
            Wanted::SelfPid => u64::from(pid),
            Wanted::OneOf(values) => random.one_of(values),
        };
        let arg = &mut args[usize::from(condition.index)];
        *arg = *arg & !condition.mask | value;
    }
    if random.below(2) == 0 {
        args[random.below(3) as usize] ^= 1 << random.below(64);
    }
    args
}

/// Asks both programs about the claim: the witness, or many calls if there is none.
fn check(random: &mut Random, inner: &[Conditions], outer: &[Conditions]) -> Option<Call> {
    let (inside, around) = (Program::of(inner), Program::of(outer));
    let found = outside(&all_terms(inner), &all_terms(outer));
    match found {
        Some(Call { args, pid }) => {
            let pid = pid.unwrap_or(1);
            assert!(pid != 0 && pid < 1 << 22, "{pid} is no process id");
            assert!(allows(&inside.for_pid(pid), args), "{args:x?}, {pid}: not in {inner:?}");
            assert!(!allows(&around.for_pid(pid), args), "{args:x?}, {pid}: in {outer:?}");
        }
        None => {
            for _ in 0..40 {
                let pid = 1 + random.below(9) as u32;
                let (inside, around) = (inside.for_pid(pid), around.for_pid(pid));
                for rules in [inner, outer] {
                    let args = derived(random, rules, pid);
                    assert!(
                        !allows(&inside, args) || allows(&around, args),
                        "{args:x?}, {pid}: in {inner:?}, not in {outer:?}"
                    );
                }
            }
        }
    }
    found
}

#[test]
fn inclusion_agrees_with_the_programs_on_random_rules() {
    let mut random = Random(0x5eed_0001);
    let (mut included, mut refuted) = (0, 0);
    for _ in 0..10_000 {
        let outer = random.rules();
        let inner = if random.below(3) == 0 { random.rules() } else { random.like(&outer) };
        match check(&mut random, &inner, &outer) {
            Some(_) => refuted += 1,
            None => included += 1,
        }
    }
    assert!(included > 2000 && refuted > 2000, "{included} included, {refuted} refuted");
}

#[test]
fn rules_in_other_words_are_the_same() {
    let mut random = Random(0x5eed_0002);
    for _ in 0..500 {
        let rules = random.rules();
        let mut other = rules.clone();
        for _ in 0..4 {
            let at = random.below(other.len() as u64) as usize;
            let halves = split(&other[at], random.below(3) as u8, 1 << random.below(32));
            other.splice(at..=at, halves);
        }
        assert_eq!(check(&mut random, &rules, &other), None, "{rules:?} {other:?}");
        assert_eq!(check(&mut random, &other, &rules), None, "{rules:?} {other:?}");
        // Without one of the halves, something is missing unless the rest holds it.
        other.pop();
        if !other.is_empty() {
            check(&mut random, &rules, &other);
        }
    }
}

/// Where all values of a few bits can be tried, trying them decides.
#[test]
fn inclusion_agrees_with_trying_every_call_of_three_bits_twice() {
    let mut random = Random(0x5eed_0003);
    let condition = |random: &mut Random| {
        let mask = 1 + random.below(7);
        let values = (0..=random.below(2)).map(|_| random.below(8) & mask).collect();
        let index = random.below(2) as u8;
        Condition { index, label: "x".to_owned(), wide: false, mask, wanted: Wanted::OneOf(values) }
    };
    let rules = |random: &mut Random, most: u64| -> Vec<Conditions> {
        let count = 1 + random.below(most);
        (0..count).map(|_| (0..=random.below(2)).map(|_| condition(random)).collect()).collect()
    };
    let mut included = 0;
    for _ in 0..3000 {
        let (inner, outer) = (rules(&mut random, 2), rules(&mut random, 8));
        let [inside, around] = [&inner, &outer].map(|rules| Program::of(rules).for_pid(1));
        let each = (0..64).map(|bits| [bits & 7, bits >> 3, 0, 0, 0, 0]);
        let expected = each.clone().all(|args| !allows(&inside, args) || allows(&around, args));
        assert_eq!(
            outside(&all_terms(&inner), &all_terms(&outer)).is_none(),
            expected,
            "{inner:?} {outer:?}"
        );
        included += usize::from(expected);
    }
    assert!(included > 300, "control: {included}");
}

fn condition(index: u8, mask: u64, wanted: Wanted) -> Condition {
    Condition { index, label: "x".to_owned(), wide: false, mask, wanted }
}

#[test]
fn the_process_id_is_every_id_that_a_worker_can_have_and_no_other() {
    let own = |index| vec![condition(index, 0xffff_ffff, Wanted::SelfPid)];
    let is = |mask, value| vec![condition(0, mask, Wanted::OneOf(vec![value]))];
    let mut random = Random(1);
    let mut inside = |inner: &[Conditions], outer: &[Conditions]| check(&mut random, inner, outer).is_none();
    assert!(inside(&[own(0)], &[own(0)]));
    assert!(!inside(&[own(0)], &[own(1)]));
    assert!(!inside(&[own(0)], &[is(0xffff_ffff, 7)]));
    assert!(!inside(&[is(0xffff_ffff, 7)], &[own(0)]), "another process may be number 7");
    assert!(inside(&[own(0)], &[is(0x8000_0000, 0)]), "ids are small");
    assert!(!inside(&[is(0xffff_ffff, 0)], &[own(0)]), "no process is number 0");
    let not_zero: Vec<_> = (0..22).map(|bit| is(1 << bit, 1 << bit)).collect();
    assert!(inside(&[own(0)], &not_zero));
    let both = |first, second| [own(first), own(second)].concat();
    assert!(inside(&[both(0, 1)], &[own(1)]) && !inside(&[own(1)], &[both(0, 1)]));
    // Both are the id, or one of them is 5 and the other is not: the id may be 5.
    let five = [own(0), vec![condition(1, 0xffff_ffff, Wanted::OneOf(vec![5]))]].concat();
    assert!(!inside(std::slice::from_ref(&five), &[both(0, 1)]));
    assert!(inside(&[[five.clone(), own(1)].concat()], &[five]));
}

#[test]
fn what_two_terms_have_in_common_is_a_call_that_can_be_made() {
    let own = terms(&[condition(0, 0xffff_ffff, Wanted::SelfPid)]);
    let zero = terms(&[condition(0, 0xffff_ffff, Wanted::OneOf(vec![0]))]);
    let odd = terms(&[condition(0, 1, Wanted::OneOf(vec![1]))]);
    let met = |one: &[super::inclusion::Term], other: &[super::inclusion::Term]| meets(&one[0], other);
    assert!(met(&own, &odd) && met(&odd, &own));
    assert!(!met(&own, &zero) && !met(&zero, &own) && !met(&zero, &odd));
}

#[test]
fn every_shipped_set_holds_itself_and_what_it_holds_is_found_in_all_together() {
    let mut random = Random(3);
    let sets =
        SyscallSet::names().map(|name| SyscallSet::shipped(name).unwrap_or_else(|error| panic!("{error}")));
    let of = |sets: &[SyscallSet], name: &str| -> Vec<Conditions> {
        let rules = sets.iter().flat_map(|set| &set.rules);
        rules
            .filter(|rule| rule.names.iter().any(|known| known == name))
            .map(|rule| rule.conditions.clone())
            .collect()
    };
    for set in &sets {
        for name in set.rules.iter().flat_map(|rule| &rule.names) {
            let own = of(std::slice::from_ref(set), name);
            assert_eq!(check(&mut random, &own, &of(&sets, name)), None, "{} {name}", set.name);
            check(&mut random, &of(&sets, name), &own);
        }
    }
}

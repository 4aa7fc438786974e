//! Seccomp programs, which the host also runs itself, on what a worker asks of the kernel.

use hotcell_policy::{Action, SeccompData, evaluate};
use hotcell_protocol::{Filter, Instruction, codec};

use crate::input::Input;

/// Every program ends on every question with a verdict, and crosses a process border unchanged.
pub fn filter(data: &[u8]) {
    let mut input = Input(data);
    let asked = SeccompData {
        nr: input.word(),
        arch: input.word(),
        instruction_pointer: input.wide(),
        args: std::array::from_fn(|_| input.wide()),
    };
    let (instructions, _) = input.0.as_chunks::<8>();
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_le_bytes([*c0, *c1]),
        jt: *jt,
        jf: *jf,
        k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
    };
    let program: Vec<Instruction> = instructions.iter().map(instruction).collect();
    let action = evaluate(&program, &asked);
    assert_eq!(Action::decode(action.encode()), action);
    if program.is_empty() {
        assert_eq!(action, Action::KillProcess, "nothing allows nothing");
    }
    let filter = Filter { program, self_pid: vec![0, u16::MAX] };
    let bytes = codec::encode(&filter).expect("encodes");
    assert_eq!(codec::decode::<Filter>(&bytes).expect("decodes"), filter);
    let bound = hotcell_policy::for_pid(&filter, 7);
    assert_eq!(bound.len(), filter.program.len());
}

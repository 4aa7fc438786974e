//! `hotcell-compiler`: one module, one process. Started by the launcher, never by hand.

use hotcell_compiler::Compiler;
use hotcell_worker::Inherited;

fn main() {
    if let Err(error) = hotcell_compiler::warm() {
        eprintln!("hotcell-compiler: failed to make the compiler: {error}");
        std::process::exit(1);
    }
    hotcell_worker::run::<Compiler>(Inherited::adopt())
}

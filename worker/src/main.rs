//! `hotcell-worker`: one native plugin in a process of its own. Started by the launcher, never by hand.

fn main() {
    hotcell_worker::native::main()
}

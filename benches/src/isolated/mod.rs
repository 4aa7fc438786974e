use std::rc::Rc;
use crate::{args::Args, failure::Failure, measure::Entry, report::Layers, runtimes::Runtimes};
pub(crate) struct Hosts;
impl Hosts { pub(crate) fn new(_: &Args, _: Rc<Runtimes>) -> Result<Hosts, Failure> { Ok(Hosts) }
 pub(crate) fn close(&self) -> Vec<Layers> { vec![] } }
pub(crate) fn entries(_: &Rc<Hosts>, _: &Args) -> Vec<Entry> { vec![] }

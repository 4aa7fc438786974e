//! render
use crate::Plan;
/// The plan as text.
pub fn render(plan: &Plan) -> String { let _ = plan; todo!() }

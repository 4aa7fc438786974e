//! A flame graph: stacks of functions as rectangles, as wide as they were seen often, callers below.

use std::collections::BTreeMap;
use std::fmt::Write;

use hotcell::StackProfile;

/// In pixels.
const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;

/// Of one letter, about.
const LETTER: f64 = 7.0;

/// What is narrower is left out.
const NARROWEST: f64 = 0.3;

/// A function, called from the one that it is in.
#[derive(Default)]
struct Node<'p> {
    samples: u64,
    called: BTreeMap<&'p str, Node<'p>>,
}

impl Node<'_> {
    fn depth(&self) -> u32 {
        1 + self.called.values().map(Node::depth).max().unwrap_or_default()
    }
}

/// Draws a profile. Each rectangle tells its function and share to whoever points at it.
pub(super) fn svg(title: &str, profile: &StackProfile) -> String {
    let mut root = Node::default();
    for stack in &profile.stacks {
        root.samples += stack.samples;
        let mut node = &mut root;
        for function in &stack.functions {
            node = node.called.entry(function).or_default();
            node.samples += stack.samples;
        }
    }
    let height = f64::from(root.depth()) * ROW;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"12\">\n"
    );
    let mut drawing = Drawing { text: &mut text, all: root.samples.max(1) as f64 };
    drawing.draw(title, &root, 0.0, height - ROW);
    text.push_str("</svg>\n");
    text
}

struct Drawing<'t> {
    text: &'t mut String,
    all: f64,
}

impl Drawing<'_> {
    fn draw(&mut self, name: &str, node: &Node<'_>, x: f64, y: f64) {
        let share = node.samples as f64 / self.all;
        let width = share * WIDTH;
        if width < NARROWEST {
            return;
        }
        let letters = (0..).take_while(|count| f64::from(*count) * LETTER < width - LETTER).count();
        let label: String = if letters < 3 { String::new() } else { name.chars().take(letters).collect() };
        let _ = writeln!(
            self.text,
            "<g><title>{}: {} samples, {:.1} %</title><rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
             fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            escaped(name),
            node.samples,
            share * 100.0,
            (width - 0.5).max(NARROWEST),
            ROW - 1.0,
            colour(name),
            x + 3.0,
            y + ROW - 5.0,
            escaped(&label),
        );
        let mut x = x;
        for (name, called) in &node.called {
            self.draw(name, called, x, y - ROW);
            x += called.samples as f64 / self.all * WIDTH;
        }
    }
}

/// The same for the same function, between red and yellow.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    format!("hsl({},{}%,65%)", hash % 50, 70 + hash / 50 % 25)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use hotcell::StackProfile;

    use super::svg;

    #[test]
    fn functions_lie_above_their_callers_as_wide_as_they_were_seen_often() {
        let profile: StackProfile = serde_json::from_value(serde_json::json!({
            "samples": 5, "outside": 1, "left_out": 0,
            "stacks": [
                { "functions": ["run", "Vec<u8>::push"], "samples": 3 },
                { "functions": ["run"], "samples": 1 },
            ],
        }))
        .expect("a profile");
        let drawn = svg("export", &profile);
        assert!(
            drawn.contains(
                "<title>run: 4 samples, 100.0 %</title><rect x=\"0.0\" y=\"18.0\" width=\"1199.5\""
            ),
            "{drawn}"
        );
        let inner =
            "<title>Vec&lt;u8&gt;::push: 3 samples, 75.0 %</title><rect x=\"0.0\" y=\"0.0\" width=\"899.5\"";
        assert!(drawn.contains(inner), "{drawn}");
    }
}

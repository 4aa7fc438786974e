//! The profiles inside this library.

/// Name and text of each shipped profile.
const SHIPPED: [(&str, &str); 4] = [
    ("image-decoder", include_str!("../../../sandbox-profiles/image-decoder.toml")),
    ("native-strict", include_str!("../../../sandbox-profiles/native-strict.toml")),
    ("pure-compute", include_str!("../../../sandbox-profiles/pure-compute.toml")),
    ("wasi-command", include_str!("../../../sandbox-profiles/wasi-command.toml")),
];

/// Their names.
pub(super) const NAMES: [&str; 4] = [SHIPPED[0].0, SHIPPED[1].0, SHIPPED[2].0, SHIPPED[3].0];

/// The profile of hotcell's own compiler, for which no manifest can ask.
pub(super) const COMPILER: &str = include_str!("../../../sandbox-profiles/internal/compiler.toml");

pub(super) fn text(name: &str) -> Option<&'static str> {
    SHIPPED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

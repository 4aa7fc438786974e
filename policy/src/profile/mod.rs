//! profile
use crate::ParseError;
/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile { name: String }
impl Profile {
    /// Reads a profile; its name is the file's name without `.toml`.
    pub fn parse(file: &str, text: &str) -> Result<Profile, ParseError> { let _ = (file, text); todo!() }
    /// A profile that hotcell ships, by name.
    pub fn shipped(name: &str) -> Option<Result<Profile, ParseError>> { let _ = name; todo!() }
    /// The names of the shipped profiles.
    pub fn shipped_names() -> &'static [&'static str] { &[] }
    /// Its name.
    pub fn name(&self) -> &str { &self.name }
}

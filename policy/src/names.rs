//! Names and paths that cannot be wrong: each type is made by parsing, and only so.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use hotcell_protocol::{FileAccess, Place};

use crate::input::is_hidden;

/// Longest plugin id, in bytes: fits a file name with room for a suffix.
const ID_MAX: usize = 128;

/// Longest host-call or profile name, in bytes.
const NAME_MAX: usize = 64;

/// Longest path, in bytes (PATH_MAX of Linux, with its final NUL).
const PATH_MAX: usize = 4095;

/// Why a text is not a name or path of its kind: one line that says what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub(crate) String);

impl NameError {
    /// What else a name must be, for those who know more of it than its kind.
    pub fn new(message: impl Into<String>) -> NameError {
        NameError(message.into())
    }
}

fn refuse<T>(message: impl Into<String>) -> Result<T, NameError> {
    Err(NameError(message.into()))
}

macro_rules! text_types {
    ($($name:ident)*) => {$(
        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text_types!(PluginId PackagePath HostCallName HostPort ProfileName);

/// Names a plugin for ever: `org.example.thumbnail`. Safe as a file name and as a D-Bus-like name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PluginId(String);

impl FromStr for PluginId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PluginId, NameError> {
        let labels: Vec<_> = text.split('.').collect();
        if text.len() > ID_MAX {
            return refuse(format!("a plugin id has at most {ID_MAX} characters"));
        }
        if labels.len() < 2 || !labels.iter().all(|label| is_label(label, "-")) {
            return refuse(
                "a plugin id is two or more labels, each of lower-case letters, digits and `-` after a letter, joined by `.`",
            );
        }
        Ok(PluginId(text.to_owned()))
    }
}

/// A file inside the package: relative, normal components only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackagePath(String);

impl FromStr for PackagePath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PackagePath, NameError> {
        if text.starts_with('/') {
            return refuse("a path inside the package is relative");
        }
        check_components(text)?;
        Ok(PackagePath(text.to_owned()))
    }
}

/// The name of a host call: `log`, `storage.get`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostCallName(String);

impl FromStr for HostCallName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<HostCallName, NameError> {
        if text.len() > NAME_MAX || !text.split('.').all(|label| is_label(label, "-_")) {
            return refuse(format!(
                "a host call is named by lower-case letters, digits, `-` and `_` after a letter, in parts joined by `.`, at most {NAME_MAX} characters"
            ));
        }
        Ok(HostCallName(text.to_owned()))
    }
}

/// The name of a profile: the name of its file, without `.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProfileName(String);

impl FromStr for ProfileName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ProfileName, NameError> {
        if text.len() > NAME_MAX || !is_label(text, "-") {
            return refuse(format!(
                "a profile is named by lower-case letters, digits and `-` after a letter, at most {NAME_MAX} characters"
            ));
        }
        Ok(ProfileName(text.to_owned()))
    }
}

impl ProfileName {
    pub(crate) const NATIVE_STRICT: &'static str = "native-strict";
    pub(crate) const PURE_COMPUTE: &'static str = "pure-compute";
    pub(crate) const WASI_COMMAND: &'static str = "wasi-command";

    /// A name that this crate wrote itself.
    pub(crate) fn of_shipped(name: &'static str) -> ProfileName {
        ProfileName(name.to_owned())
    }
}

/// A host name or address, and a port: `example.org:443`, `[2001:db8::1]:443`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort(String);

impl HostPort {
    /// The host: a name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// The port, from 1.
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }
}

impl FromStr for HostPort {
    type Err = NameError;

    fn from_str(text: &str) -> Result<HostPort, NameError> {
        let wrong = "an address is `host:port`, with a lower-case host name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535";
        let Some((host, port)) = text.rsplit_once(':') else { return refuse(wrong) };
        let port_fits = port.parse::<u16>().is_ok_and(|number| number != 0 && number.to_string() == port);
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bracketed {
            Some(address) => address.parse::<core::net::Ipv6Addr>().is_ok(),
            None => is_host_name(host),
        };
        if port_fits && host_fits { Ok(HostPort(text.to_owned())) } else { refuse(wrong) }
    }
}

fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label_fits)
}

/// Where a plugin listens: an IP address and a port, `127.0.0.1:8080` or `[::1]:8080`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddress(SocketAddr);

impl ListenAddress {
    /// The address; its port is at least 1.
    pub fn socket(self) -> SocketAddr {
        self.0
    }

    /// Whether granting it asks for a stated risk: others than this machine can reach it, or the port is one of the system's own
    /// services.
    pub(crate) fn is_dangerous(self) -> bool {
        /// Below it, only root may listen.
        const FIRST_FREE: u16 = 1024;
        !self.0.ip().is_loopback() || self.0.port() < FIRST_FREE
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ListenAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ListenAddress, NameError> {
        let usable = |address: &SocketAddr| {
            let plain = match address {
                SocketAddr::V4(_) => true,
                SocketAddr::V6(v6) => v6.scope_id() == 0 && v6.ip().to_ipv4_mapped().is_none(),
            };
            let exact = address.port() != 0 && address.to_string() == text;
            exact && plain && !address.ip().is_multicast()
        };
        match text.parse().ok().filter(usable) {
            Some(address) => Ok(ListenAddress(address)),
            None => refuse(
                "an address to listen at is `address:port`, with an IPv4 address or an IPv6 address in brackets, in its shortest form, and a port from 1 to 65535",
            ),
        }
    }
}

/// A folder or file outside the package's code: below a [`Place`], or absolute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantPath {
    place: PlaceKey,
    path: String,
}

/// [`Place`] with an order, for stable output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum PlaceKey {
    Plugin,
    Data,
    Scratch,
    Root,
}

const PLACES: [(&str, PlaceKey); 3] =
    [("${plugin}", PlaceKey::Plugin), ("${data}", PlaceKey::Data), ("${scratch}", PlaceKey::Scratch)];

impl GrantPath {
    /// The base folder.
    pub fn place(&self) -> Place {
        match self.place {
            PlaceKey::Plugin => Place::Plugin,
            PlaceKey::Data => Place::Data,
            PlaceKey::Scratch => Place::Scratch,
            PlaceKey::Root => Place::Root,
        }
    }

    /// The path below it, without a leading slash; empty for the folder itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether `other` is this path or below it.
    pub fn covers(&self, other: &GrantPath) -> bool {
        let below = || other.path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'));
        self.place == other.place && (self.path.is_empty() || self.path == other.path || below())
    }

    pub(crate) fn is_in_package(&self) -> bool {
        self.place == PlaceKey::Plugin
    }

    /// Whether granting it asks for a stated risk: writing outside the plugin's own folders, or whole system folders.
    pub(crate) fn is_dangerous(&self, access: FileAccess) -> bool {
        /// Where the machine keeps its state, its devices and its secrets.
        const SYSTEM: [&str; 7] = ["boot", "dev", "etc", "proc", "root", "run", "sys"];
        let first = self.path.split('/').next().unwrap_or_default();
        let whole = !self.path.contains('/');
        self.place == PlaceKey::Root && (access == FileAccess::Write || whole || SYSTEM.contains(&first))
    }

    /// Whether nobody keeps loaders and libraries there: the whole machine, or where a plugin can write.
    pub(crate) fn is_unreasonable_code(&self) -> bool {
        match self.place {
            PlaceKey::Data | PlaceKey::Scratch => true,
            PlaceKey::Plugin => false,
            PlaceKey::Root => self.path.is_empty() || self.is_unreasonable(FileAccess::Read),
        }
    }

    /// Whether no plugin can have a good reason for it: the whole machine, whole homes, places of secrets, and writing where the
    /// system's own files lie. Links and mounts are not looked through.
    pub fn is_unreasonable(&self, access: FileAccess) -> bool {
        /// What everybody's system is made of.
        const SYSTEM: [&str; 11] =
            ["bin", "boot", "dev", "etc", "lib", "lib64", "proc", "run", "sbin", "sys", "usr"];
        /// These and what is below them, or a folder that holds them.
        const SECRET: [&str; 9] = [
            "etc/gshadow",
            "etc/shadow",
            "etc/ssh",
            "etc/ssl/private",
            "etc/sudoers",
            "etc/sudoers.d",
            "proc",
            "dev/mem",
            "dev/kmem",
        ];
        /// Folders and files of a home that hold keys and passwords.
        const KEYS: [&str; 9] = [
            ".aws",
            ".docker",
            ".git-credentials",
            ".gnupg",
            ".kube",
            ".netrc",
            ".password-store",
            ".pki",
            ".ssh",
        ];
        let parts: Vec<_> = self.path.split('/').collect();
        let holds = |outer: &str, inner: &str| {
            outer == inner || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        let is_home = matches!(parts.as_slice(), ["root" | "home"] | ["home", _]);
        let is_system = parts.first().is_some_and(|first| SYSTEM.contains(first));
        self.place == PlaceKey::Root
            && (self.path.is_empty()
                || is_home
                || (access == FileAccess::Write && is_system)
                || parts.iter().any(|part| KEYS.contains(part))
                || SECRET.iter().any(|secret| holds(secret, &self.path) || holds(&self.path, secret)))
    }

    /// The name under which a WASI guest sees it: `/plugin/…`, `/data/…`, `/scratch/…`, or the absolute path.
    pub fn guest(&self) -> String {
        let base = match self.place {
            PlaceKey::Plugin => "/plugin",
            PlaceKey::Data => "/data",
            PlaceKey::Scratch => "/scratch",
            PlaceKey::Root => "",
        };
        if self.path.is_empty() && !base.is_empty() {
            base.to_owned()
        } else {
            format!("{base}/{}", self.path)
        }
    }
}

impl fmt::Display for GrantPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = PLACES.iter().find(|(_, place)| *place == self.place).map_or("", |(name, _)| *name);
        f.write_str(base)?;
        if self.path.is_empty() && !base.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl FromStr for GrantPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<GrantPath, NameError> {
        let base = PLACES.iter().find_map(|(name, place)| Some((text.strip_prefix(name)?, *place)));
        let (rest, place) = match base {
            Some((rest, place)) => (rest, place),
            None if text == "/" => return Ok(GrantPath { place: PlaceKey::Root, path: String::new() }),
            None => (text, PlaceKey::Root),
        };
        if rest.is_empty() && place != PlaceKey::Root {
            return Ok(GrantPath { place, path: String::new() });
        }
        let Some(path) = rest.strip_prefix('/') else {
            return refuse(
                "a path begins with `${plugin}`, `${data}`, `${scratch}` or `/`; nothing else is expanded",
            );
        };
        check_components(path)?;
        Ok(GrantPath { place, path: path.to_owned() })
    }
}

/// Checks a relative path: normal components, visible characters, no pattern.
fn check_components(path: &str) -> Result<(), NameError> {
    if path.len() > PATH_MAX {
        return refuse(format!("a path has at most {PATH_MAX} bytes"));
    }
    if path.chars().any(|character| is_hidden(character) || character == '\\') {
        return refuse("a path has no control, direction-changing or invisible characters and no `\\`");
    }
    if path.contains(['*', '?', '[', '$']) {
        return refuse("a path is taken literally: no patterns (`*`, `?`, `[`) and no variables");
    }
    if path.split('/').any(|component| matches!(component, "" | "." | ".." | "~") || component.len() > 255) {
        return refuse("a path has normal components only: no `.`, `..`, `~`, empty or over-long one");
    }
    Ok(())
}

fn is_label(label: &str, also: &str) -> bool {
    let allowed = |character: char| {
        character.is_ascii_lowercase() || character.is_ascii_digit() || also.contains(character)
    };
    label.starts_with(|first: char| first.is_ascii_lowercase()) && label.chars().all(allowed)
}

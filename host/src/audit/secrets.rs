//! Secrets that were packed by mistake: names and texts that are hardly ever anything else.

use hotcell_policy::PackagePath;

use super::Finding;
use crate::violation::Severity;

/// Names of files that hold secrets.
const NAMES: [&str; 9] = [
    ".env",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "id_ecdsa",
    "id_ed25519",
    "id_rsa",
    "signing.key",
    "credentials.json",
];

/// Texts that begin a secret.
const MARKS: [(&str, &[u8]); 5] = [
    ("a private key", b"-----BEGIN PRIVATE KEY-----"),
    ("a private key", b"-----BEGIN ENCRYPTED PRIVATE KEY-----"),
    ("a private key", b"-----BEGIN RSA PRIVATE KEY-----"),
    ("a private key", b"-----BEGIN EC PRIVATE KEY-----"),
    ("a private key", b"-----BEGIN OPENSSH PRIVATE KEY-----"),
];

/// Prefixes of tokens, each followed by at least so many letters and digits.
const TOKENS: [(&str, &[u8], usize); 5] = [
    ("an access key of AWS", b"AKIA", 16),
    ("a token of GitHub", b"ghp_", 36),
    ("a token of GitHub", b"github_pat_", 22),
    ("a token of Slack", b"xoxb-", 20),
    ("a key of Google", b"AIza", 35),
];

/// Looks at one file.
pub(super) fn look(path: &PackagePath, bytes: &[u8]) -> Vec<Finding> {
    let name = path.as_str().rsplit('/').next().unwrap_or_default();
    let named = NAMES.contains(&name).then_some("what its name says");
    let marked = MARKS.iter().find(|(_, mark)| has(bytes, mark)).map(|(what, _)| *what);
    let token = TOKENS.iter().find(|(_, prefix, length)| has_token(bytes, prefix, *length));
    let found = named.into_iter().chain(marked).chain(token.map(|(what, ..)| *what));
    let finding = |what: &str| Finding {
        rule: "secret",
        severity: Severity::High,
        file: Some(path.to_string()),
        message: format!(
            "{path} seems to hold {what}; take it out of the package, and replace it wherever it is used"
        ),
    };
    found.map(finding).collect()
}

fn has(bytes: &[u8], text: &[u8]) -> bool {
    places(bytes, text).next().is_some()
}

fn has_token(bytes: &[u8], prefix: &[u8], length: usize) -> bool {
    let is_token = |rest: &[u8]| {
        let token = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        rest.iter().take_while(token).count() >= length
    };
    places(bytes, prefix).any(|at| bytes.get(at + prefix.len()..).is_some_and(is_token))
}

/// Where a text stands.
fn places<'b>(bytes: &'b [u8], text: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    memchr::memmem::find_iter(bytes, text)
}

#[cfg(test)]
mod tests {
    use super::look;

    fn found(name: &str, text: &str) -> usize {
        look(&name.parse().expect("a path"), text.as_bytes()).len()
    }

    #[test]
    fn secrets_are_found_and_what_looks_a_little_like_them_is_not() {
        assert_eq!(found("a", "xx-----BEGIN OPENSSH PRIVATE KEY-----\n"), 1);
        assert_eq!(found("a", "-----BEGIN PUBLIC KEY-----\n"), 0);
        assert_eq!(found("a", "key = AKIAABCDEFGHIJKLMNOP"), 1);
        assert_eq!(found("a", "key = AKIAABCDEFGHIJKLMNO"), 0, "too short");
        assert_eq!(found("conf/.env", "x"), 1);
        assert_eq!(found("conf/.env.example", "x"), 0);
        assert_eq!(found("id_rsa", "-----BEGIN RSA PRIVATE KEY-----"), 2);
    }
}

//! What came of an attack, in words that can be compared.

use std::fmt;

use hotcell::{CallError, Class, Error, ExitCause, escape};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Without a character that could drive a terminal: `done`, an errno by name, `reply`, `error TEXT`, `signal NAME`, `code N`, `exit N`, `trap TEXT`, or a class.
    pub text: String,
    /// A coarser word: `plugin`, `crashed`, `deadline`, `resource`, `protocol`, `invalid`, `refused`.
    pub class: Option<&'static str>,
}

impl Seen {
    pub(crate) fn new(text: impl Into<String>) -> Seen {
        Seen { text: text.into(), class: None }
    }

    /// What `try_syscall` says of its last system call: a result and an errno.
    pub(crate) fn of_script(reply: &str) -> Seen {
        let last = reply.lines().next_back().unwrap_or_default();
        let mut words = last.split(' ');
        let (result, errno) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match (result, errno.parse::<i32>()) {
            ("-1", Ok(errno)) if errno > 0 => Seen::new(errno_name(errno)),
            (result, Ok(_)) if result.parse::<i64>().is_ok() => Seen::new("done"),
            _ => Seen::new(format!("no answer: {last}")),
        }
    }

    pub(crate) fn of_reply(reply: &[u8]) -> Seen {
        Seen { text: format!("reply {}", escape(reply.trim_ascii())), class: Some("reply") }
    }

    pub(crate) fn of_call(result: &Result<Vec<u8>, CallError>) -> Seen {
        let error = match result {
            Ok(reply) => return Seen::of_reply(reply),
            Err(error) => error,
        };
        let text = match error {
            CallError::Plugin(text) => format!("error {}", escape(text.as_bytes())),
            CallError::Crashed(exit) => cause(&exit.cause),
            other => other.to_string(),
        };
        Seen { text, class: Some(word(error.class())) }
    }

    pub(crate) fn of_load(error: &Error) -> Seen {
        let text = error.exit().map_or_else(|| error.to_string(), |exit| cause(&exit.cause));
        // What a plugin names must not drive the terminal of whoever reads of it.
        let raw = error.to_string().chars().any(|one| one != '\n' && hotcell::is_unsafe(one));
        if raw {
            Seen::new("told as it is, with its control characters")
        } else {
            Seen { text, class: Some(word(error.class())) }
        }
    }

    /// Whether this is what a word of `expect` or `control` says.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        if let Some(other) = wanted.strip_prefix("not ") {
            return !self.is(other);
        }
        if self.text == wanted || self.class == Some(wanted) {
            return true;
        }
        ["error ", "trap "].iter().any(|kind| {
            let rest = wanted.strip_prefix(kind).zip(self.text.strip_prefix(kind));
            rest.is_some_and(|(wanted, text)| text.contains(wanted))
        })
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let cut = self.text.floor_char_boundary(SHOWN);
        let (shown, rest) = self.text.split_at(cut);
        write!(f, "{shown}{}", if rest.is_empty() { "" } else { "..." })?;
        match self.class {
            Some(class) if !["plugin", "reply"].contains(&class) && self.text != class => {
                write!(f, " ({class})")
            }
            _ => Ok(()),
        }
    }
}

fn cause(cause: &ExitCause) -> String {
    match cause {
        ExitCause::Signal { name, .. } => format!("signal {name}"),
        ExitCause::Code(code) => format!("code {code}"),
        ExitCause::Trap { text, .. } => format!("trap {text}"),
        ExitCause::Violation { syscall: None } => "signal SIGSYS".to_owned(),
        other => other.to_string(),
    }
}

fn word(class: Class) -> &'static str {
    match class {
        Class::Plugin => "plugin",
        Class::Invalid => "invalid",
        Class::Refused => "refused",
        Class::Crashed => "crashed",
        Class::Deadline => "deadline",
        Class::Resource => "resource",
        Class::Protocol => "protocol",
        Class::Unavailable => "unavailable",
        Class::Internal => "internal",
        Class::Interrupted => "interrupted",
    }
}

/// errno(3), where an attack meets it.
fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        4 => "EINTR",
        5 => "EIO",
        6 => "ENXIO",
        9 => "EBADF",
        10 => "ECHILD",
        11 => "EAGAIN",
        12 => "ENOMEM",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        18 => "EXDEV",
        19 => "ENODEV",
        20 => "ENOTDIR",
        21 => "EISDIR",
        22 => "EINVAL",
        24 => "EMFILE",
        25 => "ENOTTY",
        27 => "EFBIG",
        28 => "ENOSPC",
        32 => "EPIPE",
        38 => "ENOSYS",
        88 => "ENOTSOCK",
        93 => "EPROTONOSUPPORT",
        94 => "ESOCKTNOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        111 => "ECONNREFUSED",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn the_last_system_call_counts() {
        assert_eq!(Seen::of_script("3 0\n-1 1\n").text, "EPERM");
        assert_eq!(Seen::of_script("-1 1\n0 0\n").text, "done");
        assert_eq!(Seen::of_script("-1 1\n140 0 00ff\n").text, "done");
        assert!(Seen::of_script("").text.starts_with("no answer"));
    }

    #[test]
    fn words_are_compared_as_they_are_meant() {
        let seen = Seen { text: "error open: EPERM".to_owned(), class: Some("plugin") };
        for right in ["error EPERM", "plugin", "error ", "not EPERM", "not crashed"] {
            assert!(seen.is(right), "{right}");
        }
        for wrong in ["EPERM", "error EACCES", "trap EPERM", "not plugin", ""] {
            assert!(!seen.is(wrong), "{wrong}");
        }
    }
}

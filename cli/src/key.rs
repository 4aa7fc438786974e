//! `hotcell key`: the private key of a plugin's author, in a file of its own.
//!
//! PKCS #8 in PEM, as `openssl genpkey -algorithm ed25519` writes it; encrypted with a passphrase (PBES2) or not. Either way
//! nobody else may read the file.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::KeypairBytes;
use hotcell::packages::KeyId;
use pkcs8::der::zeroize::Zeroizing;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};

use crate::outcome::Outcome;

/// What `key` is about.
pub(crate) const KEY: &str = "\
The file is PKCS #8 in PEM (RFC 8410), by default ~/.config/hotcell/signing.key. It must belong to you alone. Keys that openssl
has made can be used, and signatures can be made elsewhere: `hotcell plugin sign --statement`. docs/packages.md says how to keep
and how to replace a key.";

/// Largest file of a key, in bytes.
const FILE_MAX: u64 = 64 << 10;

/// How the PEM text of an encrypted key begins.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// What `key` does.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyAction {
    /// Make a key, and print its public half
    New {
        #[command(flatten)]
        file: KeyFile,
        /// Do not encrypt it: whoever reads the file can sign as you
        #[arg(long, conflicts_with = "passphrase_file")]
        no_passphrase: bool,
    },
    /// Print the public half: what others trust
    Show {
        #[command(flatten)]
        file: KeyFile,
    },
}

/// Where a key is, and how it is opened.
#[derive(Debug, Args)]
pub(crate) struct KeyFile {
    /// The file of the private key [default: ~/.config/hotcell/signing.key]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A file whose first line is the passphrase [default: asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

pub(crate) fn key(action: KeyAction) -> ExitCode {
    let done = match action {
        KeyAction::New { file, no_passphrase } => new(&file, no_passphrase),
        KeyAction::Show { file } => file.open(),
    };
    match done {
        Ok(key) => {
            println!("{}", KeyId::of(&key));
            ExitCode::SUCCESS
        }
        Err(outcome) => outcome.report(),
    }
}

fn new(file: &KeyFile, no_passphrase: bool) -> Result<SigningKey, Outcome> {
    let path = file.path()?;
    let mut seed = Zeroizing::new([0; 32]);
    let random = File::open("/dev/urandom").and_then(|mut random| random.read_exact(seed.as_mut()));
    random.map_err(|error| Outcome::internal(format!("failed to read random bytes: {error}")))?;
    let key = SigningKey::from_bytes(&seed);
    // Without the public half, which older readers of PKCS #8 do not know.
    let pair = KeypairBytes { secret_key: *seed, public_key: None };
    let written = match no_passphrase {
        true => pair.to_pkcs8_pem(LineEnding::LF),
        false => pair.to_pkcs8_encrypted_pem(file.new_passphrase()?.as_bytes(), LineEnding::LF),
    };
    let text = written.map_err(|error| Outcome::internal(format!("failed to write a key: {error}")))?;
    let failed = |error| Outcome::invalid(format!("failed to write {}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)?;
    eprintln!(
        "wrote {}; this is its public half, which those who install your plugins trust:",
        path.display()
    );
    Ok(key)
}

impl KeyFile {
    /// Whether there is a key, named or not.
    pub(crate) fn is_there(&self) -> bool {
        self.key.is_some() || self.path().is_ok_and(|path| path.exists())
    }

    fn path(&self) -> Result<PathBuf, Outcome> {
        if let Some(path) = &self.key {
            return Ok(path.clone());
        }
        let home = std::env::home_dir().filter(|home| home.is_absolute());
        let home = home
            .ok_or_else(|| Outcome::invalid("there is no home folder; name a file with --key".to_owned()))?;
        Ok(home.join(".config/hotcell/signing.key"))
    }

    /// Reads the private key.
    pub(crate) fn open(&self) -> Result<SigningKey, Outcome> {
        let path = self.path()?;
        let text = read_private(&path)?;
        let wrong = |why: String| Outcome::invalid(format!("{}: {why}", path.display()));
        let pair = if text.starts_with(ENCRYPTED) {
            let passphrase = self.passphrase(&format!("Passphrase of {}: ", path.display()))?;
            KeypairBytes::from_pkcs8_encrypted_pem(&text, passphrase.as_bytes()).map_err(|_| {
                wrong("the passphrase is not the one of this key, or it is no ed25519 key".to_owned())
            })
        } else {
            KeypairBytes::from_pkcs8_pem(&text).map_err(|error| {
                wrong(format!("no ed25519 key in PKCS #8 ({error}); make one with `hotcell key new`"))
            })
        }?;
        Ok(SigningKey::from_bytes(&pair.secret_key))
    }

    fn new_passphrase(&self) -> Result<Zeroizing<String>, Outcome> {
        if self.passphrase_file.is_none() && !std::io::stdin().is_terminal() {
            let what = "nobody can be asked for a passphrase: give --passphrase-file, or --no-passphrase";
            return Err(Outcome::invalid(what.to_owned()));
        }
        let passphrase = self.passphrase("Passphrase of the new key: ")?;
        if passphrase.is_empty() {
            return Err(Outcome::invalid("an empty passphrase is none; --no-passphrase says so".to_owned()));
        }
        if self.passphrase_file.is_none() && self.passphrase("The same again: ")? != passphrase {
            return Err(Outcome::invalid("the two are not the same".to_owned()));
        }
        Ok(passphrase)
    }

    fn passphrase(&self, prompt: &str) -> Result<Zeroizing<String>, Outcome> {
        let text = match &self.passphrase_file {
            Some(path) => read_private(path)?,
            None => Zeroizing::new(rpassword::prompt_password(prompt).map_err(|error| {
                Outcome::invalid(format!("failed to ask for the passphrase: {error}; give --passphrase-file"))
            })?),
        };
        Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
    }
}

/// Reads a file that is nobody else's business.
fn read_private(path: &Path) -> Result<Zeroizing<String>, Outcome> {
    let failed = |error: std::io::Error| {
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "; make a key with `hotcell key new`",
            _ => "",
        };
        Outcome::invalid(format!("failed to read {}: {error}{help}", path.display()))
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        let mode = mode & 0o7777;
        return Err(Outcome::invalid(format!(
            "{} can be read by others (mode {mode:o}); chmod 600 it, and use another key if somebody may have read it",
            path.display()
        )));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

//! What {{name}} does: a command with arguments and standard streams, and nothing else that was not granted.

use std::io::Read;

fn main() {
    let mut text = String::new();
    if let Err(error) = std::io::stdin().read_to_string(&mut text) {
        eprintln!("failed to read the input: {error}");
        std::process::exit(1);
    }
    let name = std::env::args().nth(1).unwrap_or_else(|| "you".to_owned());
    println!("Hello, {name}! Your input has {} words.", text.split_whitespace().count());
}

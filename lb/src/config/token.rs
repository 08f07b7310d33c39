//! The admin token: its sources, its requirements, and how one is made.
//!
//! Why its strength is estimated: an admin port is open to every client that reaches it, so a token must not be
//! guessable. The estimate is an upper bound. It assumes characters drawn at random from the smallest usual alphabet
//! that has them all. Invariant: no error shows a token.

use std::io;
use std::path::Path;

use super::document::Document;
use super::error::Fault;
use super::file;
use super::key_path::KeyPath;
use super::layers::{Layered, Origin};
use super::load::{Source, read_bytes, text_of};
use super::overrides::TOKEN_VARIABLE;
use super::validate::{Surroundings, absolute};
use super::validated::Secret;

const TOKEN_BYTES_MAX: u64 = 4_096;
const TOKEN_BITS_MIN: f64 = 128.0;
/// A random token of enough bits has more. Of tokens of 32 hexadecimal digits, one in 10^8 has fewer than 8 kinds.
const KINDS_MIN: usize = 8;

/// 256 random bits of the system as hexadecimal digits, which cannot be guessed.
pub fn random_digits() -> io::Result<String> {
    let mut bytes = [0; 32];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    // so few bytes are read at once or not at all
    debug_assert_eq!(filled, bytes.len());
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The admin API's token with its origin. Order: a file named on the command line, LB_ADMIN_TOKEN, a file named in the
/// environment or the configuration file.
pub(super) fn admin_token(
    layered: &Layered,
    document: &Document<'_>,
    source: &Source,
    around: &Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Option<(Secret, Origin)>, Fault> {
    let file::Admin { listen: _, token_file } = &layered.form.admin;
    let key = KeyPath::of(&["admin", "token_file"]);
    let origin = layered.origin_of(document, &key);
    let variable = source.environment.get(TOKEN_VARIABLE).filter(|token| !token.is_empty());
    if let (Some(token), false) = (variable, matches!(origin, Origin::CommandLine(_))) {
        let key = KeyPath::of(&["admin", "token"]);
        let token = check_token(token).map_err(|what| Fault::new(key.clone(), what))?;
        return Ok(Some((token, layered.origin_of(document, &key))));
    }
    let Some(path) = token_file else { return Ok(None) };
    let path = absolute(path, key.clone(), around)?;
    Ok(Some((secret_in_file(&path, &key, warnings)?, origin)))
}

/// The secret in the file that `key` names. It has the requirements of a token, so `lb token` makes it.
pub(super) fn secret_in_file(path: &Path, key: &KeyPath, warnings: &mut Vec<String>) -> Result<Secret, Fault> {
    let fault = |what: String| Fault::new(key.clone(), format!("{} {what}", path.display()));
    let unreadable = |error: String| fault(format!("cannot be read: {error}"));
    let bytes = read_bytes(path, TOKEN_BYTES_MAX).map_err(unreadable)?;
    let secret = check_token(text_of(&bytes).map_err(unreadable)?).map_err(fault)?;
    if open_to_all(path) {
        warnings.push(format!("{key}: {} can be read by every user; chmod 600 it", path.display()));
    }
    Ok(secret)
}

/// A token is sent in a header, so it is visible ASCII; the line end of an editor does not count.
fn check_token(text: &str) -> Result<Secret, String> {
    let token = text.trim_end_matches(['\n', '\r']);
    if token.is_empty() {
        return Err("has no token in it".to_owned());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be one line of visible ASCII without spaces".to_owned());
    }
    if bits_at_most(token) < TOKEN_BITS_MIN {
        return Err("has a token of fewer than 128 bits, which can be guessed: `lb token` makes one, for example \
                    (umask 077; lb token > FILE)"
            .to_owned());
    }
    Ok(Secret::new(token.to_owned()))
}

/// The most bits that a token can have, by its length and its characters; 0 if it has too few kinds of characters.
fn bits_at_most(token: &str) -> f64 {
    let mut kinds: Vec<u8> = token.bytes().collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() < KINDS_MIN {
        return 0.0;
    }
    let all = |is_in: fn(&u8) -> bool| kinds.iter().all(is_in);
    let alphabet: u32 = match () {
        () if all(u8::is_ascii_digit) => 10,
        () if all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => 16,
        () if all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')) => 16,
        () if all(u8::is_ascii_lowercase) || all(u8::is_ascii_uppercase) => 26,
        () if all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()) => 36,
        () if all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte)) => 64,
        () => 94,
    };
    token.len() as f64 * f64::from(alphabet).log2()
}

fn open_to_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_128_random_bits_from_common_tools_are_accepted_and_shorter_ones_refused() {
        let made = random_digits().unwrap();
        for strong in [
            &*made,
            // openssl rand -hex 16, -base64 16; uuidgen twice; a password manager's 20 characters
            "b9c1f6b2d34f0a7e5c8890712de4ab63",
            "q2Zk0vKfT9mJr3wQX5sYbA==",
            "kT9-x_Qm2vLw8ZpR5sYd1A",
            "x}7Kp!d9@Wq2#Lm5$Rt8",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert!(check_token(strong).is_ok(), "{strong}");
            assert!(check_token(&format!("{strong}\n")).is_ok(), "{strong}");
        }
        for weak in
            ["secret", "b9c1f6b2d34f0a7e5c8890712de4ab6", "12345678901234567890123456789012345678", "x}7Kp!d9@Wq2"]
        {
            let said = check_token(weak).unwrap_err();
            assert!(said.contains("128 bits") && said.contains("lb token") && !said.contains(weak), "{said}");
        }
        assert!(check_token(&"abcabc1".repeat(20)).is_err(), "few characters that repeat");
    }
}

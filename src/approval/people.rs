//! Who is who: people, their groups, their tokens, and what tells that a session is theirs. Knows no requests.
//!
//! Start at [`People`].

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::hold::Origin;
use crate::judge::Somebody;

/// Shortest token accepted. Only the SHA-256 is kept, which is safe for tokens too long to guess and for no others.
pub const MIN_TOKEN_CHARS: usize = 16;

/// Longest token looked at.
pub const MAX_TOKEN_CHARS: usize = 512;

/// Somebody the configuration knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Person {
    /// As shown in decisions; unique.
    pub name: String,
    /// Groups they belong to.
    pub groups: Vec<String>,
    /// Tokens that prove to be them on the admin API.
    pub tokens: Vec<TokenDigest>,
    /// Database users they work as. Requests of these are their own. Several people may share one; then it is the
    /// request of each of them.
    pub database_users: Vec<String>,
    /// Common names of the client certificates that prove to be them; as for database users.
    pub certificate_names: Vec<String>,
    /// `application_name`s of their sessions. Any client may claim any, so they only ever make a request theirs as well.
    pub application_names: Vec<String>,
    /// Their Slack user id (`U…`).
    pub slack_user: Option<String>,
    /// Their e-mail address, by which Slack may know them.
    pub email: Option<String>,
}

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

/// Why a token is not accepted in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It could be guessed.
    #[error("a token needs at least {MIN_TOKEN_CHARS} characters, such as `openssl rand -hex 32` prints")]
    TooShort,
    /// No HTTP header could carry it.
    #[error("a token is at most {MAX_TOKEN_CHARS} visible ASCII characters without spaces")]
    Unusable,
    /// Not 64 hexadecimal digits.
    #[error("a token's sha256 is 64 hexadecimal digits, such as `printf %s TOKEN | sha256sum` prints")]
    NotADigest,
}

impl TokenDigest {
    /// The digest of a token given in the clear.
    pub fn of(token: &str) -> Result<Self, TokenError> {
        if token.len() < MIN_TOKEN_CHARS {
            return Err(TokenError::TooShort);
        }
        if token.len() > MAX_TOKEN_CHARS || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unusable);
        }
        Ok(Self::compute(token))
    }

    /// A digest given as 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Result<Self, TokenError> {
        let mut digest = [0; 32];
        hex::decode_to_slice(hex, &mut digest).map_err(|_| TokenError::NotADigest)?;
        Ok(Self(digest))
    }

    /// As [`TokenDigest::from_hex`] reads it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Whether a token has this digest. Takes the same time for every token.
    #[must_use]
    pub fn is_of(&self, token: &str) -> bool {
        self.0.ct_eq(&Self::compute(token).0).into()
    }

    fn compute(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

/// Everybody, checked: names and tokens are unique.
#[derive(Debug, Clone, Default)]
pub struct People {
    everybody: Arc<[Person]>,
}

/// Why a list of people cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeopleError {
    /// A name is empty, or has control characters.
    #[error("a person needs a name of visible characters")]
    Name,
    /// Two people have one name.
    #[error("two people are named {0:?}")]
    SameName(String),
    /// Two people have one token.
    #[error("{0:?} and {1:?} have the same token")]
    SameToken(String, String),
    /// Two people have one Slack user or one e-mail address, so a click could count as either's.
    #[error("{0:?} and {1:?} have the same Slack user or e-mail address")]
    SameSlackUser(String, String),
}

impl People {
    /// Checks a list of people.
    pub fn new(people: Vec<Person>) -> Result<Self, PeopleError> {
        let mut names = HashSet::new();
        let mut tokens: Vec<(TokenDigest, &str)> = Vec::new();
        for person in &people {
            if person.name.trim().is_empty() || person.name.chars().any(char::is_control) {
                return Err(PeopleError::Name);
            }
            if !names.insert(person.name.as_str()) {
                return Err(PeopleError::SameName(person.name.clone()));
            }
            for token in &person.tokens {
                let other = tokens.iter().find(|(other, _)| other == token);
                if let Some((_, other)) = other.filter(|(_, other)| *other != person.name) {
                    let other = (*other).to_owned();
                    return Err(PeopleError::SameToken(other, person.name.clone()));
                }
                tokens.push((*token, &person.name));
            }
        }
        for (index, person) in people.iter().enumerate() {
            let mut others = people.iter().take(index);
            let same = others.find(|other| {
                same(other.slack_user.as_ref(), person.slack_user.as_ref())
                    || same(other.email.as_ref(), person.email.as_ref())
            });
            if let Some(other) = same {
                return Err(PeopleError::SameSlackUser(other.name.clone(), person.name.clone()));
            }
        }
        Ok(Self { everybody: people.into() })
    }

    /// Everybody, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Person> {
        self.everybody.iter()
    }

    /// The person of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Person> {
        self.iter().find(|person| person.name == name)
    }

    /// The person with that Slack user.
    #[must_use]
    pub fn by_slack_user(&self, user: &str) -> Option<&Person> {
        self.iter().find(|person| person.slack_user.as_deref() == Some(user))
    }

    /// The person with that e-mail address.
    #[must_use]
    pub fn by_email(&self, email: &str) -> Option<&Person> {
        self.iter().find(|person| person.email.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(email)))
    }

    /// Who a token proves to be. Takes the same time whoever it is, and nobody.
    #[must_use]
    pub fn by_token(&self, token: &str) -> Option<&Person> {
        let presented = TokenDigest::compute(token);
        // 0 for nobody, otherwise the position counted from 1; every digest is compared, without a branch on the result.
        let mut found = 0_u64;
        for (position, person) in (1_u64..).zip(self.iter()) {
            for digest in &person.tokens {
                found.conditional_assign(&position, digest.0.ct_eq(&presented.0));
            }
        }
        let index = usize::try_from(found.checked_sub(1)?).ok()?;
        self.everybody.get(index)
    }

    /// The people known to be behind a session: those its client certificate names, which is proof; else those who work as
    /// its database user. Empty when nobody is known to.
    pub fn behind<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a Person> {
        self.working_as(origin.certificate_name.as_deref(), &origin.user)
    }

    /// The same for a session that is not there.
    pub fn working_as<'a>(&'a self, certificate: Option<&'a str>, user: &'a str) -> impl Iterator<Item = &'a Person> {
        let certified = self.iter().any(|person| person.is_certified_by(certificate));
        self.iter().filter(move |person| {
            if certified {
                person.is_certified_by(certificate)
            } else {
                person.database_users.iter().any(|known| known == user)
            }
        })
    }

    /// Whether a request of that session would be a person's own: they are behind it, or its `application_name` is theirs.
    #[must_use]
    pub fn is_own(&self, origin: &Origin, name: &str) -> bool {
        let claims = |person: &Person| {
            !origin.application_name.is_empty() && person.application_names.contains(&origin.application_name)
        };
        // Fail closed: an application's name proves nothing, so it takes a vote away and never makes a requester known.
        self.behind(origin).any(|person| person.name == name)
            || self.iter().any(|person| person.name == name && claims(person))
    }
}

impl Person {
    /// What rules may ask of them.
    #[must_use]
    pub fn to_judge(&self) -> Somebody {
        Somebody { name: self.name.clone(), groups: self.groups.clone() }
    }

    fn is_certified_by(&self, certificate: Option<&str>) -> bool {
        certificate.is_some_and(|name| self.certificate_names.iter().any(|known| known == name))
    }
}

fn same(one: Option<&String>, other: Option<&String>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::string_slice)]

    use super::*;

    fn person(name: &str, token: &str, users: &[&str]) -> Person {
        Person {
            name: name.to_owned(),
            groups: Vec::new(),
            tokens: vec![TokenDigest::of(token).unwrap()],
            database_users: users.iter().map(|user| (*user).to_owned()).collect(),
            ..Person::default()
        }
    }

    const ANN: &str = "ann-token-0123456789";
    const BOB: &str = "bob-token-0123456789";

    #[test]
    fn a_token_names_its_person_and_no_other() {
        let people = People::new(vec![person("ann", ANN, &[]), person("bob", BOB, &[])]).unwrap();
        assert_eq!(people.by_token(ANN).unwrap().name, "ann");
        assert_eq!(people.by_token(BOB).unwrap().name, "bob");
        for wrong in ["", "ann", &ANN[1..], &format!("{ANN} ")] {
            assert!(people.by_token(wrong).is_none(), "{wrong:?}");
        }
        assert!(People::default().by_token(ANN).is_none());
    }

    #[test]
    fn names_and_tokens_are_nobody_elses() {
        let same_name = People::new(vec![person("ann", ANN, &[]), person("ann", BOB, &[])]);
        assert_eq!(same_name.err(), Some(PeopleError::SameName("ann".into())));
        let same_token = People::new(vec![person("ann", ANN, &[]), person("bob", ANN, &[])]);
        assert_eq!(same_token.err(), Some(PeopleError::SameToken("ann".into(), "bob".into())));
        let unseen = People::new(vec![person("a\u{1b}[2Jnn", ANN, &[])]);
        assert_eq!(unseen.err(), Some(PeopleError::Name));
    }

    #[test]
    fn a_slack_user_or_address_is_one_persons() {
        let with = |name: &str, user: Option<&str>, email: Option<&str>| Person {
            name: name.to_owned(),
            slack_user: user.map(str::to_owned),
            email: email.map(str::to_owned),
            ..Person::default()
        };
        let people =
            People::new(vec![with("ann", Some("U01"), Some("ann@example.com")), with("bob", None, None)]).unwrap();
        assert_eq!(people.by_slack_user("U01").map(|person| person.name.as_str()), Some("ann"));
        assert_eq!(people.by_email("Ann@Example.com").map(|person| person.name.as_str()), Some("ann"));
        assert!(people.by_slack_user("U02").is_none() && people.by_email("").is_none());
        for other in [with("bob", Some("U01"), None), with("bob", None, Some("ANN@example.com"))] {
            let both = People::new(vec![with("ann", Some("U01"), Some("ann@example.com")), other]);
            assert_eq!(both.err(), Some(PeopleError::SameSlackUser("ann".into(), "bob".into())));
        }
    }

    #[test]
    fn tokens_that_could_be_guessed_or_sent_wrongly_are_refused() {
        assert_eq!(TokenDigest::of("short"), Err(TokenError::TooShort));
        assert_eq!(TokenDigest::of("sixteen chars but spaces"), Err(TokenError::Unusable));
        let long = "x".repeat(MAX_TOKEN_CHARS + 1);
        assert_eq!(TokenDigest::of(&long), Err(TokenError::Unusable));
    }

    #[test]
    fn a_digest_survives_hex_and_nothing_else_is_one() {
        let digest = TokenDigest::of(ANN).unwrap();
        assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Ok(digest));
        let upper = digest.to_hex().to_uppercase();
        assert_eq!(TokenDigest::from_hex(&upper), Ok(digest));
        let hex = digest.to_hex();
        for wrong in ["", &hex[..63], &format!("{hex}0"), &format!("0{hex}"), &hex.replace(|_| true, "g")] {
            assert_eq!(TokenDigest::from_hex(wrong), Err(TokenError::NotADigest));
        }
        assert_eq!(format!("{digest:?}"), "TokenDigest(…)");
    }

    fn session_of(user: &str) -> Origin {
        crate::approval::testing::request(user, "DELETE FROM t").origin
    }

    fn behind<'a>(people: &'a People, origin: &'a Origin) -> Vec<&'a str> {
        people.behind(origin).map(|person| person.name.as_str()).collect()
    }

    #[test]
    fn a_shared_database_user_is_everyone_who_names_it() {
        let people = vec![person("ann", ANN, &["app", "ann"]), person("bob", BOB, &["app"])];
        let people = People::new(people).unwrap();
        assert_eq!(behind(&people, &session_of("app")), ["ann", "bob"]);
        assert_eq!(behind(&people, &session_of("ann")), ["ann"]);
        assert!(behind(&people, &session_of("eve")).is_empty());
    }

    #[test]
    fn a_certificate_counts_before_the_database_user_and_an_application_only_adds() {
        let ann = Person { certificate_names: vec!["ann@laptop".to_owned()], ..person("ann", ANN, &["app"]) };
        let bob = Person { application_names: vec!["notebook".to_owned()], ..person("bob", BOB, &["app"]) };
        let people = People::new(vec![ann, bob]).unwrap();
        let by = |certificate: Option<&str>, application: &str| Origin {
            certificate_name: certificate.map(ToOwned::to_owned),
            application_name: application.to_owned(),
            ..session_of("app")
        };
        assert_eq!(behind(&people, &by(Some("ann@laptop"), "psql")), ["ann"]);
        assert_eq!(behind(&people, &by(Some("nobody's"), "psql")), ["ann", "bob"]);
        let claimed = by(Some("ann@laptop"), "notebook");
        assert_eq!(behind(&people, &claimed), ["ann"]);
        assert!(people.is_own(&claimed, "bob") && people.is_own(&claimed, "ann"));
        assert!(!people.is_own(&by(Some("ann@laptop"), ""), "bob"));
        assert!(!people.is_own(&Origin { user: "other".to_owned(), ..by(None, "") }, "bob"));
    }
}

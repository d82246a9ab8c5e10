//! Who a Slack user is to the desk, asked of Slack when they act. Knows no requests.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::Value;

use crate::approval::channel::Actor;
use crate::approval::people::{People, Person};

use super::Inner;
use super::interaction::Clicker;

/// Somebody who may speak, with what Slack could not tell about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) actor: Actor,
    /// Groups whose members Slack did not tell: nobody counts as a member.
    pub(super) unknown_groups: Vec<String>,
}

impl Inner {
    /// Who they are.
    ///
    /// # Errors
    /// Why they cannot be anybody, in a sentence for them.
    pub(super) async fn who(&self, by: &Clicker) -> Result<Known, String> {
        let ours = self.workspace().await.map_err(|error| {
            format!("Slack did not say which workspace this is ({})", error.explain(&self.settings.channel))
        })?;
        in_workspace(by, &ours.team_id)?;
        let user = self.api.user(&by.user).await;
        self.report(&user);
        // Fail closed: whom Slack does not describe is nobody.
        let user =
            user.map_err(|error| format!("Slack did not say who you are ({})", error.explain(&self.settings.channel)))?;
        entitled(&user, &by.user, &ours.team_id)?;
        let directory = self.directory.load_full();
        let wanted = &directory.groups;
        let mut lookups = Vec::new();
        for group in wanted {
            lookups.push(self.api.group_members(group));
        }
        let mut groups = Vec::new();
        let mut unknown_groups = Vec::new();
        for (group, members) in wanted.iter().zip(join_all(lookups).await) {
            match members {
                Ok(members) if members.contains(&by.user) => groups.push(format!("slack:{group}")),
                Ok(_) => {}
                // Fail closed: nobody is a member of a group that cannot be read.
                Err(error) => {
                    tracing::warn!("Slack: cannot read group {group}: {}", error.explain(&self.settings.channel));
                    unknown_groups.push(group.clone());
                }
            }
        }
        Ok(Known { actor: actor(&user, &by.user, &ours.team_id, groups, &directory.people), unknown_groups })
    }
}

/// Every team the payload names has to be ours, and it has to name one.
fn in_workspace(by: &Clicker, ours: &str) -> Result<(), String> {
    if by.teams.is_empty() || by.teams.iter().any(|team| team != ours) {
        return Err("you belong to another workspace".to_owned());
    }
    Ok(())
}

/// Whether this is somebody of ours who is a full member.
fn entitled(user: &Value, id: &str, ours: &str) -> Result<(), String> {
    let is = |key: &str| user.get(key).and_then(Value::as_bool).unwrap_or_default();
    let text = |pointer: &str| user.pointer(pointer).and_then(Value::as_str);
    if text("/id") != Some(id) {
        return Err("Slack did not say who you are".to_owned());
    }
    for (key, why) in [
        ("deleted", "your account is deactivated"),
        ("is_bot", "apps decide nothing"),
        ("is_workflow_bot", "apps decide nothing"),
        ("is_restricted", "guests decide nothing"),
        ("is_ultra_restricted", "guests decide nothing"),
        ("is_stranger", "you belong to another workspace"),
        ("is_invited_user", "your account is not active yet"),
    ] {
        if is(key) {
            return Err(why.to_owned());
        }
    }
    // In an organisation of several workspaces a user belongs to all that are listed.
    let listed = user.pointer("/enterprise_user/teams").and_then(Value::as_array);
    let listed = listed.is_some_and(|teams| teams.iter().any(|team| team.as_str() == Some(ours)));
    if text("/team_id") != Some(ours) && !listed {
        return Err("you belong to another workspace".to_owned());
    }
    Ok(())
}

fn actor(user: &Value, id: &str, team: &str, slack_groups: Vec<String>, people: &People) -> Actor {
    let confirmed = user.get("is_email_confirmed").and_then(Value::as_bool) != Some(false);
    let email = user.pointer("/profile/email").and_then(Value::as_str).filter(|email| confirmed && email.contains('@'));
    let person = person(people, id, email);
    let name = format!("slack:{team}/{id}");
    let mut names = HashSet::from([name.clone(), format!("slack:{id}")]);
    names.extend(email.map(str::to_lowercase));
    names.extend(person.map(|person| person.name.clone()));
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    let mut groups = person.map(|person| person.groups.clone()).unwrap_or_default();
    groups.extend(slack_groups);
    Actor { identity: person.map_or(name, |person| person.name.clone()), names, groups }
}

/// By Slack user, otherwise by address; an address does not make somebody a person who has another Slack user.
fn person<'a>(people: &'a People, id: &str, email: Option<&str>) -> Option<&'a Person> {
    let by_email = || people.by_email(email?).filter(|person| person.slack_user.is_none());
    people.by_slack_user(id).or_else(by_email)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user() -> Value {
        json!({"id": "U01", "team_id": "T01", "profile": {"email": "Ann@example.com"}})
    }

    #[test]
    fn guests_deactivated_users_bots_and_strangers_are_nobody() {
        assert_eq!(entitled(&user(), "U01", "T01"), Ok(()));
        for key in [
            "deleted",
            "is_bot",
            "is_workflow_bot",
            "is_restricted",
            "is_ultra_restricted",
            "is_stranger",
            "is_invited_user",
        ] {
            let mut user = user();
            user[key] = json!(true);
            assert!(entitled(&user, "U01", "T01").is_err(), "{key}");
        }
        assert!(entitled(&user(), "U02", "T01").is_err());
        assert!(entitled(&user(), "U01", "T02").is_err());
        assert!(entitled(&json!({}), "U01", "T01").is_err());
        let mut organisation = user();
        organisation["team_id"] = json!("T09");
        organisation["enterprise_user"] = json!({"teams": ["T02", "T01"]});
        assert_eq!(entitled(&organisation, "U01", "T01"), Ok(()));
    }

    #[test]
    fn a_click_from_another_workspace_or_from_none_is_refused() {
        let by =
            |teams: &[&str]| Clicker { user: "U01".into(), teams: teams.iter().map(|team| (*team).into()).collect() };
        assert!(in_workspace(&by(&["T01"]), "T01").is_ok());
        for teams in [&[][..], &["T02"], &["T01", "T02"]] {
            assert!(in_workspace(&by(teams), "T01").is_err(), "{teams:?}");
        }
    }

    #[test]
    fn a_person_is_known_by_slack_user_or_address_and_never_takes_the_place_of_another() {
        let person = |name: &str, slack: Option<&str>, email: Option<&str>| Person {
            name: name.to_owned(),
            groups: vec!["dba".to_owned()],
            slack_user: slack.map(str::to_owned),
            email: email.map(str::to_owned),
            ..Person::default()
        };
        let identity = |people: Vec<Person>, user: &Value| {
            actor(user, "U01", "T01", vec!["slack:S01".to_owned()], &People::new(people).unwrap())
        };
        let by_user = identity(vec![person("ann", Some("U01"), None)], &user());
        assert_eq!(by_user.identity, "ann");
        assert_eq!(by_user.groups, ["dba", "slack:S01"]);
        assert_eq!(by_user.names, ["ann", "ann@example.com", "slack:T01/U01", "slack:U01"]);
        assert_eq!(identity(vec![person("ann", None, Some("ann@example.com"))], &user()).identity, "ann");
        // Same address, but the configuration knows ann by another Slack user.
        let other = identity(vec![person("ann", Some("U02"), Some("ann@example.com"))], &user());
        assert_eq!(other.identity, "slack:T01/U01");
        let mut unconfirmed = user();
        unconfirmed["is_email_confirmed"] = json!(false);
        let unconfirmed = identity(vec![person("ann", None, Some("ann@example.com"))], &unconfirmed);
        assert_eq!((unconfirmed.identity.as_str(), unconfirmed.names.len()), ("slack:T01/U01", 2));
    }
}

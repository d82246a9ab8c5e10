//! Who and what is in the workspace: users, user groups, channels, with the JSON Slack describes them by.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// How much of a member somebody is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Membership {
    /// A full member.
    #[default]
    Full,
    /// A guest in several channels: `is_restricted`.
    Guest,
    /// A guest in one channel: `is_restricted` and `is_ultra_restricted`.
    SingleChannelGuest,
    /// Somebody of another organisation seen in a shared channel: `is_stranger`.
    Stranger,
}

/// A person or a bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `U…`
    pub id: String,
    /// The handle.
    pub name: String,
    /// The name people read.
    pub real_name: String,
    /// The address; strangers' and bots' are not shown.
    pub email: Option<String>,
    /// `T…`; the workspace's own unless somebody else's.
    pub team: Option<String>,
    /// Member, guest or stranger.
    pub membership: Membership,
    /// Deactivated.
    pub deleted: bool,
    /// Not a person.
    pub bot: bool,
}

impl User {
    /// A full member.
    pub fn new(id: &str, name: &str) -> User {
        User {
            id: id.to_owned(),
            name: name.to_owned(),
            real_name: name.to_owned(),
            email: None,
            team: None,
            membership: Membership::Full,
            deleted: false,
            bot: false,
        }
    }

    /// With an address.
    #[must_use]
    pub fn email(mut self, email: &str) -> User {
        self.email = Some(email.to_owned());
        self
    }

    /// A guest in several channels.
    #[must_use]
    pub fn guest(mut self) -> User {
        self.membership = Membership::Guest;
        self
    }

    /// A guest in one channel.
    #[must_use]
    pub fn single_channel_guest(mut self) -> User {
        self.membership = Membership::SingleChannelGuest;
        self
    }

    /// Somebody of another workspace.
    #[must_use]
    pub fn stranger(mut self, team: &str) -> User {
        self.membership = Membership::Stranger;
        self.team = Some(team.to_owned());
        self
    }

    /// Of another workspace of the same organisation: another team, yet no stranger.
    #[must_use]
    pub fn of_team(mut self, team: &str) -> User {
        self.team = Some(team.to_owned());
        self
    }

    /// Deactivated.
    #[must_use]
    pub fn deactivated(mut self) -> User {
        self.deleted = true;
        self
    }

    /// A bot.
    #[must_use]
    pub fn bot(mut self) -> User {
        self.bot = true;
        self
    }

    pub(crate) fn team_or<'u>(&'u self, own: &'u str) -> &'u str {
        self.team.as_deref().unwrap_or(own)
    }

    /// As `users.info` describes them; `email` only with the scope for it.
    pub(crate) fn json(&self, own_team: &str, show_email: bool) -> Value {
        let stranger = self.membership == Membership::Stranger;
        let mut profile = json!({
            "real_name": self.real_name, "real_name_normalized": self.real_name,
            "display_name": self.name, "display_name_normalized": self.name,
            "avatar_hash": "g0", "team": self.team_or(own_team),
        });
        if show_email
            && !stranger
            && !self.bot
            && let Some(email) = &self.email
        {
            set(&mut profile, "email", json!(email));
        }
        let mut user = json!({
            "id": self.id, "team_id": self.team_or(own_team), "name": self.name, "deleted": self.deleted,
            "profile": profile, "is_bot": self.bot, "is_app_user": false, "updated": 1_795_000_000,
        });
        if !self.deleted {
            // Slack leaves these out for deactivated users: their absence must not be read as "a full member".
            for (key, value) in [
                ("real_name", json!(self.real_name)),
                ("tz", json!("Europe/London")),
                ("tz_label", json!("Greenwich Mean Time")),
                ("tz_offset", json!(0)),
                ("is_admin", json!(false)),
                ("is_owner", json!(false)),
                ("is_primary_owner", json!(false)),
                ("is_restricted", json!(matches!(self.membership, Membership::Guest | Membership::SingleChannelGuest))),
                ("is_ultra_restricted", json!(self.membership == Membership::SingleChannelGuest)),
                ("is_email_confirmed", json!(true)),
            ] {
                set(&mut user, key, value);
            }
        }
        if stranger {
            set(&mut user, "is_stranger", json!(true));
        }
        user
    }
}

/// A user group, `@handle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `S…`
    pub id: String,
    /// Without the `@`.
    pub handle: String,
    /// Who is in it.
    pub members: BTreeSet<String>,
    /// Disabled groups are listed only when asked for, and have no members.
    pub disabled: bool,
}

impl Group {
    /// A group of these users.
    pub fn new(id: &str, handle: &str, members: &[&str]) -> Group {
        Group {
            id: id.to_owned(),
            handle: handle.to_owned(),
            members: members.iter().map(|id| (*id).to_owned()).collect(),
            disabled: false,
        }
    }

    pub(crate) fn json(&self, team: &str, with_users: bool, with_count: bool) -> Value {
        let mut group = json!({
            "id": self.id, "team_id": team, "is_usergroup": true, "is_subteam": true, "name": self.handle,
            "description": "", "handle": self.handle, "is_external": false, "date_create": 1_700_000_000,
            "date_update": 1_700_000_000, "date_delete": if self.disabled { 1_750_000_000 } else { 0 },
            "auto_type": null, "auto_provision": false, "enterprise_subteam_id": "", "created_by": "U0ADMIN",
            "updated_by": "U0ADMIN", "deleted_by": null, "prefs": { "channels": [], "groups": [] },
        });
        if with_users {
            set(&mut group, "users", json!(self.members));
        }
        if with_count {
            set(&mut group, "user_count", json!(self.members.len()));
        }
        group
    }
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anybody of the workspace may look.
    Public,
    /// Members only; others are told that it does not exist.
    Private,
    /// One person and the bot.
    Direct,
}

/// A channel or a direct conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// `C…`, `G…` or `D…`
    pub id: String,
    /// Without the `#`.
    pub name: String,
    /// Public, private or direct.
    pub kind: Kind,
    /// Read-only for good.
    pub archived: bool,
    /// Shared with another organisation.
    pub shared: bool,
    /// The people in it.
    pub members: BTreeSet<String>,
    /// Whether the bot is in it.
    pub has_bot: bool,
}

impl Channel {
    /// A public channel with the bot and these people in it.
    pub fn new(id: &str, name: &str, members: &[&str]) -> Channel {
        Channel {
            id: id.to_owned(),
            name: name.to_owned(),
            kind: Kind::Public,
            archived: false,
            shared: false,
            members: members.iter().map(|id| (*id).to_owned()).collect(),
            has_bot: true,
        }
    }

    /// A private one.
    #[must_use]
    pub fn private(mut self) -> Channel {
        self.kind = Kind::Private;
        self
    }

    /// Without the bot.
    #[must_use]
    pub fn without_bot(mut self) -> Channel {
        self.has_bot = false;
        self
    }

    /// Archived.
    #[must_use]
    pub fn archived(mut self) -> Channel {
        self.archived = true;
        self
    }

    /// Shared with another organisation.
    #[must_use]
    pub fn shared(mut self) -> Channel {
        self.shared = true;
        self
    }

    pub(crate) fn direct(id: &str, user: &str) -> Channel {
        Channel { kind: Kind::Direct, members: BTreeSet::from([user.to_owned()]), ..Channel::new(id, "", &[]) }
    }

    /// The name interactions carry.
    pub(crate) fn shown_name(&self) -> &str {
        match self.kind {
            Kind::Public => &self.name,
            Kind::Private => "privategroup",
            Kind::Direct => "directmessage",
        }
    }

    pub(crate) fn json(&self) -> Value {
        if self.kind == Kind::Direct {
            let user = self.members.first();
            return json!({ "id": self.id, "created": 1_700_000_000, "is_im": true, "is_org_shared": false,
                "is_archived": self.archived, "user": user, "is_user_deleted": false, "priority": 0 });
        }
        let private = self.kind == Kind::Private;
        json!({
            "id": self.id, "name": self.name, "name_normalized": self.name, "is_channel": !private, "is_group": private,
            "is_im": false, "is_mpim": false, "is_private": private, "is_archived": self.archived, "is_general": false,
            "is_shared": self.shared, "is_ext_shared": self.shared, "is_org_shared": false, "is_member": self.has_bot,
            "created": 1_700_000_000, "creator": "U0ADMIN", "unlinked": 0,
        })
    }
}

/// Sets a key of an object; nothing when it is none.
pub(crate) fn set(value: &mut Value, key: &str, to: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(key.to_owned(), to);
    }
}

//! A token for an administrator who has none: `windlass-master admin-token`.
//!
//! Whoever may read the master's configuration and write its database is the master, so no token is asked
//! for; the audit log names the user of the machine. The master may run meanwhile, here or elsewhere, and
//! knows the token from its next request on. What is written waits for the leading master's transaction and
//! holds up the next one, so the chain of the audit log stays one chain.

use crate::{
    access::AccessError,
    api::stands_for_others,
    config::Config,
    setup::{self, SetupError},
    store::{Store, tokens},
};
use std::time::Duration;
use windlass_types::{
    UserName,
    api::{NewToken, Role, Token},
};

/// How often the lead's row is asked for while a busy master holds it.
const ATTEMPTS: u32 = 5;

/// Whose token it is to be.
#[derive(Debug, Clone, Default)]
pub struct AdminToken {
    /// A user; made when there is none.
    pub user: Option<UserName>,
    /// What the token is called, which is its name in the audit log where it belongs to nobody.
    pub name: Option<String>,
    /// It ends after this.
    pub ttl: Option<Duration>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("a name has 1 to 100 characters, none of them control characters")]
    Name,
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl RecoveryError {
    /// What to do about it, where that can be said.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            RecoveryError::Access(AccessError::Store(error))
            | RecoveryError::Setup(SetupError::Store(error)) => error.hint(),
            RecoveryError::Access(AccessError::NoAdministrator { .. } | AccessError::Disabled(_)) => Some(
                "leave `--user` out for a token of nobody, and change the user with it: `windlass users set-role`, `windlass users enable`",
            ),
            RecoveryError::Access(AccessError::UserOfThatName(_)) => {
                Some("give the token another name with `--name`, or give it to that user with `--user`")
            }
            RecoveryError::Access(AccessError::TokenOfThatName(_)) => {
                Some("choose another name for the user")
            }
            _ => None,
        }
    }
}

/// Who asks: the user of this machine, as the audit log has it.
pub fn local_actor() -> String {
    let id = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => format!("local:{}", user.name),
        // A user of no name is one all the same.
        Ok(None) | Err(_) => format!("local:{id}"),
    }
}

/// Make it.
///
/// # Errors
/// If this is no master, the user is no administrator, or the database is of another version.
pub async fn admin_token(config: &Config, new: &AdminToken, actor: &str) -> Result<Token, RecoveryError> {
    setup::check_mode(&config.data_dir)?;
    let store = Store::beside(config).await.map_err(AccessError::from)?;
    make(&store, new, actor).await
}

async fn make(store: &Store, new: &AdminToken, actor: &str) -> Result<Token, RecoveryError> {
    let name = new.name.clone().unwrap_or_else(|| "admin".to_owned());
    if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(RecoveryError::Name);
    }
    if stands_for_others(&name) {
        return Err(AccessError::Reserved(name).into());
    }
    let user = new.user.clone();
    let role = user.is_none().then(|| Role::Admin.into());
    let ttl_ms = new.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    let new = NewToken { name, role, user, ttl_ms };
    let mut attempt = 1;
    loop {
        match tokens::create_beside(store, &new, actor).await {
            // A master that writes all the time was faster each time.
            Err(AccessError::Store(error)) if attempt < ATTEMPTS && error.is_lock_timeout() => attempt += 1,
            made => return Ok(made?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        StoreError, audit,
        lease::{self, Candidate},
        users,
    };
    use windlass_types::{Fingerprint, MasterId, api::access::NewUser};

    fn of(user: &str) -> AdminToken {
        AdminToken { user: Some(user.parse().unwrap()), ..AdminToken::default() }
    }

    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&dir.path().join("db")).await;
        (dir, store)
    }

    #[tokio::test]
    async fn a_token_is_of_nobody_or_of_an_administrator() {
        let (_dir, store) = store().await;
        let made = make(&store, &AdminToken::default(), "local:root").await.unwrap();
        let secret = made.token.unwrap();
        let known = tokens::find(&store, tokens::hash(&secret).unwrap()).await.unwrap().unwrap();
        assert_eq!(
            (known.name.as_str(), known.role.name.as_str(), known.expires_ms),
            ("admin", "admin", None)
        );

        // A user who is not there is made, and is the same the next time.
        let ttl = Some(Duration::from_secs(60));
        for _ in 0..2 {
            let made = make(&store, &AdminToken { ttl, ..of("jane") }, "local:root").await.unwrap();
            let secret = made.token.unwrap();
            let known = tokens::find(&store, tokens::hash(&secret).unwrap()).await.unwrap().unwrap();
            assert_eq!((known.name.as_str(), known.role.name.as_str()), ("jane", "admin"));
            assert!(known.expires_ms.is_some());
        }
        assert_eq!(users::get(&store, "jane").await.unwrap().tokens, 2);
        let entries = audit::page(&store, None, 10).await.unwrap();
        let actions: Vec<_> =
            entries.iter().rev().map(|entry| (entry.actor.as_str(), entry.action.as_str())).collect();
        let expected = ["token.create", "user.create", "token.create", "token.create"];
        assert_eq!(actions, expected.map(|action| ("local:root", action)));
        audit::verify(&store).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_gets_more_than_he_had() {
        let (_dir, store) = store().await;
        let new = NewUser { name: "bob".parse().unwrap(), role: Role::Viewer.into() };
        users::create(&store, &new, "system").await.unwrap();
        let new = NewUser { name: "eve".parse().unwrap(), role: Role::Admin.into() };
        users::create(&store, &new, "system").await.unwrap();
        let change = windlass_types::api::access::ChangeUser { disabled: Some(true), ..Default::default() };
        users::change(&store, &"eve".parse().unwrap(), &change, "system").await.unwrap();
        let before = audit::verify(&store).await.unwrap();
        for (new, says) in [
            (of("bob"), "not that of an administrator"),
            (of("eve"), "is disabled"),
            (AdminToken { name: Some("bob".into()), ..AdminToken::default() }, "name of a user"),
            (AdminToken { name: Some("rule:mend".into()), ..AdminToken::default() }, "somebody else"),
            (AdminToken { name: Some("a\nb".into()), ..AdminToken::default() }, "control characters"),
        ] {
            let refused = make(&store, &new, "local:root").await.unwrap_err();
            assert!(refused.to_string().contains(says), "{refused}");
        }
        assert_eq!(audit::verify(&store).await.unwrap(), before, "nothing was written");
    }

    /// The chain of the audit log is one, whoever appends to it at the same time.
    #[tokio::test]
    async fn a_leader_that_writes_meanwhile_and_the_command_make_one_chain() {
        let (dir, store) = store().await;
        let me = Candidate {
            master: MasterId::new(),
            address: String::new(),
            authority: Fingerprint::of(b"authority"),
        };
        let mut connection = store.connect().await.unwrap();
        let epoch = lease::take(&mut connection, None, &me).await.unwrap().unwrap();
        // As another process: with a writer of its own.
        let other = crate::testing::open(&dir.path().join("db")).await;
        let leader = store.for_term(epoch);
        let new = NewToken { name: "ci".into(), role: Some(Role::Viewer.into()), user: None, ttl_ms: None };
        let leading = futures_util::future::join_all((0..40).map(|_| tokens::create(&leader, &new)));
        let beside = async {
            for _ in 0..20 {
                make(&other, &AdminToken::default(), "local:root").await.unwrap();
            }
        };
        let again = async {
            // One after the other too, so that transactions of both begin all the time.
            for _ in 0..40 {
                tokens::create(&leader, &new).await.unwrap();
            }
        };
        let (made, (), ()) = tokio::join!(leading, beside, again);
        assert!(made.iter().all(Result::is_ok));
        assert_eq!(audit::verify(&store).await.unwrap().seq, 100);
    }

    #[tokio::test]
    async fn a_database_of_another_version_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        let server = std::env::var("WINDLASS_TEST_POSTGRES").ok();
        if let Some(server) = &server {
            let url = crate::testing::database(server, &config.database()).await;
            config.store.url = Some(crate::config::Secret(url));
        }
        let nothing = Store::beside(&config).await.unwrap_err();
        assert!(matches!(nothing, StoreError::Blank), "{nothing}");
        assert!(!config.database().exists());

        let store = Store::of(&config).await.unwrap();
        Store::beside(&config).await.unwrap();
        let mut connection = store.connect().await.unwrap();
        for (change, says) in [
            (
                "UPDATE _sqlx_migrations SET version = 9999 \
                 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
                "newer",
            ),
            ("DELETE FROM _sqlx_migrations WHERE version = 9999", "older"),
        ] {
            crate::store::sql::query(change).execute(&mut connection).await.unwrap();
            let refused = Store::beside(&config).await.unwrap_err();
            assert!(refused.to_string().contains(says) && refused.hint().is_some(), "{refused}");
        }
    }
}

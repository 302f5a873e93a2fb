//! The lead, as a row in the database.
//!
//! Whoever leads counts `beats` up. Whoever wants to lead watches them, and takes the row when they have
//! stood still for long enough by its own clock: so no two clocks are ever compared. Taking it is a
//! compare and swap on what was seen, so of two that take it at the same moment one gets it.
//!
//! An epoch is at least the number of seconds since 1970. So a database that was restored from an older
//! copy never leads with an epoch below what hosts remember.

use super::{Connection, StoreError, sql};
use windlass_types::{Fingerprint, MasterId};

/// The lead, as somebody left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub epoch: u64,
    /// None if it was given up.
    pub master: Option<MasterId>,
    /// `host:port` for other masters; empty if it listens to none.
    pub address: String,
    pub authority: Fingerprint,
    beats: i64,
}

/// A master that would lead.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub master: MasterId,
    pub address: String,
    pub authority: Fingerprint,
}

fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// Who leads; none before the first master of this database.
///
/// # Errors
/// If the database fails, or the row makes no sense.
pub async fn read(connection: &mut Connection) -> Result<Option<Lease>, StoreError> {
    let row = sql::query("SELECT epoch, master, address, authority, beats FROM leader WHERE id = 1")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let bad = |what| move |error: windlass_types::IdError| StoreError::corrupt(what, error);
    Ok(Some(Lease {
        epoch: u64::try_from(row.try_get::<i64>("epoch")?)
            .map_err(|error| StoreError::corrupt("epoch", error))?,
        master: match row.try_get("master")? {
            "" => None,
            id => Some(id.parse().map_err(bad("leader"))?),
        },
        address: row.try_get("address")?,
        authority: row.try_get::<&str>("authority")?.parse().map_err(bad("authority of the leader"))?,
        beats: row.try_get("beats")?,
    }))
}

/// Take the lead from whom it was seen with. The new epoch, or none if somebody was faster.
///
/// # Errors
/// If the database fails.
pub async fn take(
    connection: &mut Connection,
    seen: Option<&Lease>,
    me: &Candidate,
) -> Result<Option<u64>, StoreError> {
    let seconds = u64::try_from(crate::now_ms() / 1000).unwrap_or(0);
    let epoch = seen.map_or(1, |lease| lease.epoch + 1).max(seconds);
    let query = match seen {
        None => sql::query(
            "INSERT INTO leader (id, epoch, master, address, authority, beats) VALUES (1, $1, $2, $3, $4, 0) \
             ON CONFLICT (id) DO NOTHING",
        ),
        Some(_) => sql::query(
            "UPDATE leader SET epoch = $1, master = $2, address = $3, authority = $4, beats = 0 \
             WHERE id = 1 AND epoch = $5 AND beats = $6",
        ),
    };
    let query = query
        .bind(number(epoch))
        .bind(me.master.to_string())
        .bind(&me.address)
        .bind(me.authority.to_string());
    let query = match seen {
        None => query,
        Some(lease) => query.bind(number(lease.epoch)).bind(lease.beats),
    };
    let taken = query.execute(connection).await? == 1;
    Ok(taken.then_some(epoch))
}

/// Go on leading. False if somebody else leads.
///
/// # Errors
/// If the database fails.
pub async fn renew(connection: &mut Connection, epoch: u64) -> Result<bool, StoreError> {
    let renewed = sql::query("UPDATE leader SET beats = beats + 1 WHERE id = 1 AND epoch = $1")
        .bind(number(epoch))
        .execute(connection)
        .await?;
    Ok(renewed == 1)
}

/// Lead no more: another master may take it at once.
///
/// # Errors
/// If the database fails.
pub async fn give_up(connection: &mut Connection, epoch: u64) -> Result<(), StoreError> {
    sql::query("UPDATE leader SET master = '', beats = beats + 1 WHERE id = 1 AND epoch = $1")
        .bind(number(epoch))
        .execute(connection)
        .await?;
    Ok(())
}

/// The epoch that may write in the transaction that has begun. On a server the row stays as it is until
/// the transaction ends: a takeover waits for it. A renewal does not, since the lock is only on the key
/// that the epoch is part of.
pub(super) async fn leads(connection: &mut Connection) -> Result<u64, sqlx::Error> {
    let look = match connection {
        Connection::Sqlite(_) => "SELECT epoch FROM leader WHERE id = 1",
        Connection::Postgres(_) => "SELECT epoch FROM leader WHERE id = 1 FOR KEY SHARE",
    };
    let epoch: Option<i64> = sql::query(look).fetch_scalar(connection).await?;
    Ok(epoch.and_then(|epoch| u64::try_from(epoch).ok()).unwrap_or(0))
}

/// Let nobody else write until the transaction that has begun ends: not even the master that leads, whose
/// transactions wait for it in [`leads`]. For what is written beside it and reads before it writes, as an
/// entry of the audit log does. On a file a transaction is alone anyway.
pub(super) async fn alone(connection: &mut Connection) -> Result<(), sqlx::Error> {
    match connection {
        Connection::Sqlite(_) => {}
        Connection::Postgres(_) => {
            let lock = sql::query("SELECT epoch FROM leader WHERE id = 1 FOR UPDATE");
            lock.fetch_optional(connection).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::AccessError;
    use crate::store::tokens;
    use windlass_types::api::{NewToken, Role};

    fn candidate() -> Candidate {
        Candidate {
            master: MasterId::new(),
            address: "127.0.0.1:1".into(),
            authority: Fingerprint::of(b"authority"),
        }
    }

    #[tokio::test]
    async fn one_of_many_takes_what_stands_still() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&dir.path().join("db")).await;
        let (mut a, mut b) = (store.connect().await.unwrap(), store.connect().await.unwrap());
        assert_eq!(read(&mut a).await.unwrap(), None);
        let (first, second) = (candidate(), candidate());
        let epoch = take(&mut a, None, &first).await.unwrap().unwrap();
        assert!(epoch > 1_700_000_000, "not below what any host remembers: {epoch}");
        assert_eq!(take(&mut b, None, &second).await.unwrap(), None, "it was there first");
        let seen = read(&mut b).await.unwrap().unwrap();
        assert_eq!((seen.epoch, seen.master, &seen.address), (epoch, Some(first.master), &first.address));
        assert!(renew(&mut a, epoch).await.unwrap());
        assert_eq!(take(&mut b, Some(&seen), &second).await.unwrap(), None, "it did not stand still");
        let seen = read(&mut b).await.unwrap().unwrap();
        let next = take(&mut b, Some(&seen), &second).await.unwrap().unwrap();
        assert!(next > epoch);
        assert!(!renew(&mut a, epoch).await.unwrap());
        give_up(&mut a, epoch).await.unwrap();
        assert_eq!(
            read(&mut a).await.unwrap().unwrap().master,
            Some(second.master),
            "not its own to give up"
        );
        give_up(&mut b, next).await.unwrap();
        assert_eq!(read(&mut a).await.unwrap().unwrap().master, None);
    }

    #[tokio::test]
    async fn who_does_not_lead_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&dir.path().join("db")).await;
        let mut connection = store.connect().await.unwrap();
        let epoch = take(&mut connection, None, &candidate()).await.unwrap().unwrap();
        let new = NewToken { name: "t".into(), role: Some(Role::Viewer.into()), user: None, ttl_ms: None };
        let (before, mine) = (store.for_term(epoch - 1), store.for_term(epoch));
        assert!(matches!(
            tokens::create(&before, &new).await,
            Err(AccessError::Store(StoreError::NotLeading))
        ));
        tokens::create(&mine, &new).await.unwrap();
        let seen = read(&mut connection).await.unwrap().unwrap();
        take(&mut connection, Some(&seen), &candidate()).await.unwrap().unwrap();
        // Side by side in one group: each is judged by itself.
        let (stale, of_none) = tokio::join!(tokens::create(&mine, &new), tokens::create(&store, &new));
        assert!(matches!(stale, Err(AccessError::Store(StoreError::NotLeading))));
        of_none.unwrap();
        let tokens: Option<i64> =
            sql::query("SELECT COUNT(*) FROM tokens").fetch_scalar(store.readers()).await.unwrap();
        assert_eq!(tokens, Some(2));
    }
}

//! The audit log: a chain of hashes.
//!
//! Each entry holds the SHA-256 of itself and of the hash before it, so an entry that was changed,
//! taken out or put in between breaks the chain from there on, and [`verify`] says where. Cutting
//! entries off the end leaves a good chain: whoever fears that compares `(seq, hash)` of the newest
//! entry with a copy kept elsewhere.

use super::{
    Connection, Row, Store, StoreError,
    nodes::{from_json, parse},
    sql,
};
use futures_util::TryStreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use windlass_types::{
    Digest,
    api::{AuditEntry, AuditHead},
};

/// An entry to append.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Name of the token, `system`, or `local:` and a user of the master's machine.
    pub actor: String,
    /// What was done, such as `node.accept`.
    pub action: &'static str,
    /// To what.
    pub subject: String,
    pub detail: Value,
    pub allowed: bool,
}

impl NewEntry {
    /// Of something that somebody was allowed to do.
    pub fn allowed(actor: &str, action: &'static str, subject: impl ToString, detail: Value) -> Self {
        NewEntry { actor: actor.to_owned(), action, subject: subject.to_string(), detail, allowed: true }
    }
}

/// Append an entry, in the transaction of what it is about.
///
/// # Errors
/// If the database fails.
pub async fn append(connection: &mut Connection, entry: &NewEntry) -> Result<(), StoreError> {
    // One writer: nobody can append between these two statements. Who is not the writer of the leading
    // master has to be alone (`lease::alone`).
    let last = sql::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        .fetch_optional(&mut *connection)
        .await?;
    let (seq, before) = match last {
        Some(row) => (row.try_get::<i64>("seq")? + 1, parse("hash", &row.try_get::<String>("hash")?)?),
        None => (1, GENESIS.into()),
    };
    let link = Link {
        seq,
        time_ms: crate::now_ms(),
        // As it will be read: the hash is over these.
        actor: sql::clean(&entry.actor),
        action: entry.action.to_owned(),
        subject: sql::clean(&entry.subject),
        detail: entry.detail.to_string(),
        verdict: if entry.allowed { "allowed" } else { "denied" }.to_owned(),
    };
    sql::query(
        "INSERT INTO audit (seq, time_ms, actor, action, subject, detail, verdict, hash) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(link.seq)
    .bind(link.time_ms)
    .bind(&link.actor)
    .bind(&link.action)
    .bind(&link.subject)
    .bind(&link.detail)
    .bind(&link.verdict)
    .bind(link.hash(before).to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// What stands for the hash before the first entry.
const GENESIS: [u8; 32] = [0; 32];

/// An entry as it is hashed: the detail as the very text that is stored.
struct Link {
    seq: i64,
    time_ms: i64,
    actor: String,
    action: String,
    subject: String,
    detail: String,
    verdict: String,
}

impl Link {
    fn read(row: &Row) -> Result<(Self, Digest), StoreError> {
        let link = Link {
            seq: row.try_get("seq")?,
            time_ms: row.try_get("time_ms")?,
            actor: row.try_get("actor")?,
            action: row.try_get("action")?,
            subject: row.try_get("subject")?,
            detail: row.try_get("detail")?,
            verdict: row.try_get("verdict")?,
        };
        Ok((link, parse("hash", &row.try_get::<String>("hash")?)?))
    }

    /// Each field goes in with its length, so that no two entries have the same bytes.
    fn hash(&self, before: Digest) -> Digest {
        let mut hash = Sha256::new();
        hash.update(b"windlass-audit-1\n");
        hash.update(before.as_bytes());
        hash.update(self.seq.to_be_bytes());
        hash.update(self.time_ms.to_be_bytes());
        for text in [&self.actor, &self.action, &self.subject, &self.detail, &self.verdict] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        let hash: [u8; 32] = hash.finalize().into();
        hash.into()
    }
}

/// A page, newest first: entries with a lower `seq` than `before`.
///
/// # Errors
/// If the database fails.
pub async fn page(store: &Store, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = sql::query("SELECT * FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT $2")
        .bind(before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(store.readers())
        .await?;
    rows.iter()
        .map(|row| {
            let (link, hash) = Link::read(row)?;
            Ok(AuditEntry {
                seq: link.seq,
                time_ms: link.time_ms,
                actor: link.actor,
                action: link.action,
                subject: link.subject,
                detail: from_json("audit detail", &link.detail)?,
                verdict: link.verdict,
                hash,
            })
        })
        .collect()
}

/// Why a log can't be trusted.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The entry is not what was written, or what was before it is not.
    #[error(
        "entry {seq} of the audit log does not fit the hash chain: it or what was before it has been changed"
    )]
    Broken { seq: i64 },
    /// Entries are missing.
    #[error("the audit log has no entry {seq}")]
    Missing { seq: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Walk the whole chain.
///
/// # Errors
/// With the first entry that does not fit.
pub async fn verify(store: &Store) -> Result<AuditHead, VerifyError> {
    let mut head = AuditHead { seq: 0, hash: GENESIS.into() };
    let mut rows = sql::query("SELECT * FROM audit ORDER BY seq").fetch(store.readers());
    while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
        let (link, hash) = Link::read(&row)?;
        if link.seq != head.seq + 1 {
            return Err(VerifyError::Missing { seq: head.seq + 1 });
        }
        if link.hash(head.hash) != hash {
            return Err(VerifyError::Broken { seq: link.seq });
        }
        head = AuditHead { seq: link.seq, hash };
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn filled() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = crate::testing::open(&folder.path().join("db")).await;
        for (action, allowed) in [("node.accept", true), ("job.create", true), ("token.create", false)] {
            let entry = NewEntry {
                actor: "ann".into(),
                action,
                subject: "n1".into(),
                detail: json!({ "big": u64::MAX }),
                allowed,
            };
            store.write(move |c| Box::pin(async move { append(c, &entry).await })).await.unwrap();
        }
        (folder, store)
    }

    async fn tamper(store: &Store, sql: &'static str) {
        store
            .write::<(), StoreError, _>(move |c| {
                Box::pin(async move {
                    sql::query(sql).execute(c).await?;
                    Ok(())
                })
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_log_that_was_tampered_with_is_found_out() {
        let (_folder, store) = filled().await;
        let head = verify(&store).await.unwrap();
        let newest = page(&store, None, 1).await.unwrap();
        assert_eq!((head.seq, head.hash), (3, newest[0].hash));
        assert_eq!(newest[0].detail["big"], json!(u64::MAX));
        assert_eq!(newest[0].verdict, "denied");

        for sql in [
            "UPDATE audit SET actor = 'bob' WHERE seq = 2",
            "UPDATE audit SET time_ms = time_ms + 1 WHERE seq = 2",
            "UPDATE audit SET action = 'node.acceptn', subject = '1' WHERE seq = 2",
            "UPDATE audit SET detail = '{}' WHERE seq = 2",
            "UPDATE audit SET verdict = 'denied' WHERE seq = 2",
            "UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 1) WHERE seq = 2",
        ] {
            let (_folder, store) = filled().await;
            tamper(&store, sql).await;
            assert!(matches!(verify(&store).await, Err(VerifyError::Broken { seq: 2 })), "{sql}");
        }
        for (sql, missing) in [("DELETE FROM audit WHERE seq = 2", 2), ("DELETE FROM audit WHERE seq = 1", 1)]
        {
            let (_folder, store) = filled().await;
            tamper(&store, sql).await;
            assert!(
                matches!(verify(&store).await, Err(VerifyError::Missing { seq }) if seq == missing),
                "{sql}"
            );
        }
        // An entry taken out, with the numbers closed up behind it.
        let (_folder, store) = filled().await;
        tamper(&store, "DELETE FROM audit WHERE seq = 2").await;
        tamper(&store, "UPDATE audit SET seq = 2 WHERE seq = 3").await;
        assert!(matches!(verify(&store).await, Err(VerifyError::Broken { seq: 2 })));
    }

    #[tokio::test]
    async fn pages_go_from_new_to_old() {
        let (_folder, store) = filled().await;
        let first = page(&store, None, 2).await.unwrap();
        assert_eq!(first.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [3, 2]);
        let second = page(&store, Some(2), 2).await.unwrap();
        assert_eq!(second.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1]);
    }
}

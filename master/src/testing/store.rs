//! The one writer.

use crate::store::{Store, StoreError, sql};

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::testing::open(&dir.path().join("x.db")).await;
    (dir, store)
}

async fn put(store: &Store, id: String, fail: bool) -> Result<(), StoreError> {
    store
        .write(move |c| {
            Box::pin(async move {
                sql::query("INSERT INTO inventories (digest, plugins) VALUES ($1, '[]')")
                    .bind(&id)
                    .execute(&mut *c)
                    .await?;
                if fail { Err(StoreError::corrupt("test", "on purpose")) } else { Ok(()) }
            })
        })
        .await
}

async fn count(store: &Store) -> i64 {
    let row = sql::query("SELECT COUNT(*) AS number FROM inventories").fetch_one(store.readers()).await;
    row.unwrap().try_get("number").unwrap()
}

#[tokio::test]
async fn a_write_that_fails_takes_no_other_with_it() {
    let (_dir, store) = store().await;
    let writes = (0..500).map(|n| {
        let store = store.clone();
        async move { put(&store, format!("{n}"), n % 3 == 0).await }
    });
    let results = futures_util::future::join_all(writes).await;
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), n % 3 == 0, "{n}: {result:?}");
    }
    assert_eq!(count(&store).await, 333, "what failed left nothing");
    let twice = put(&store, "1".into(), false).await.unwrap_err();
    assert!(twice.is_unique_violation());
    put(&store, "after".into(), false).await.unwrap();
}

#[tokio::test]
async fn a_write_whose_caller_is_gone_is_kept_whole() {
    let (_dir, store) = store().await;
    for n in 0..20 {
        // Polled once: the write is in the queue, and nobody waits for its end.
        let write = put(&store, format!("{n}"), false);
        tokio::select! { biased; _ = write => {} () = std::future::ready(()) => {} }
    }
    put(&store, "last".into(), false).await.unwrap();
    assert_eq!(count(&store).await, 21);
}

use super::*;

async fn store(dir: &std::path::Path) -> Store {
    Store::open(&dir.join("db"), crate::config::Durability::Process).await.unwrap()
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

#[tokio::test]
async fn values_are_kept_changed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let path = dir.path().join("secrets.key");
    let vault = Vault::open_at(path.clone(), store.clone()).await.unwrap();
    let nas = name("nas");
    assert!(matches!(vault.pins(&[nas.clone()].into()), Err(VaultError::Unknown(_))));
    vault.set(&nas, b"hunter2\n", "jane").await.unwrap();
    let pin = vault.pins(&[nas.clone()].into()).unwrap()[&nas].clone();
    assert_eq!(&vault.value(&nas, &pin).unwrap()[..], b"hunter2\n");

    // Another master that takes over.
    let next = Vault::open_at(path.clone(), store.clone()).await.unwrap();
    assert_eq!(&next.value(&nas, &pin).unwrap()[..], b"hunter2\n");
    let changed = next.set(&nas, b"hunter3", "joe").await.unwrap();
    assert_eq!((changed.version, &*changed.created_by, &*changed.changed_by), (2, "jane", "joe"));
    assert!(matches!(next.value(&nas, &pin), Err(VaultError::Changed(_))), "old values are not kept");
    let pin = next.pins(&[nas.clone()].into()).unwrap()[&nas].clone();
    next.remove(&nas, "joe").await.unwrap();
    assert!(matches!(next.value(&nas, &pin), Err(VaultError::Changed(_))));
    next.set(&nas, b"hunter3", "joe").await.unwrap();
    assert!(matches!(next.value(&nas, &pin), Err(VaultError::Changed(_))), "the same value is another one");
    assert!(matches!(next.remove(&name("no"), "joe").await, Err(VaultError::Unknown(_))));
}

#[tokio::test]
async fn what_can_not_be_hidden_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open_at(dir.path().join("key"), store(dir.path()).await).await.unwrap();
    for short in [&b""[..], b"12345", b"  123 \n  "] {
        assert!(matches!(vault.set(&name("nas"), short, "jane").await, Err(VaultError::Size { .. })));
    }
    let long = vec![b'x'; MAX_BYTES + 1];
    assert!(matches!(vault.set(&name("nas"), &long, "jane").await, Err(VaultError::Size { .. })));
    assert!(matches!(vault.set(&name("nas"), b"secret", "jane").await, Err(VaultError::InLabel)));
    vault.set(&name("nas"), &long[1..], "jane").await.unwrap();
}

#[tokio::test]
async fn without_the_key_nothing_is_read_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path()).await;
    let nas = name("nas");
    let first = Vault::open_at(dir.path().join("first.key"), store.clone()).await.unwrap();
    let pin = first.set(&nas, b"hunter2", "jane").await.unwrap().id.clone();
    let path = dir.path().join("second.key");
    for other in [None, Some(())] {
        if other.is_some() {
            Key::create(&path).unwrap();
        }
        let vault = Vault::open_at(path.clone(), store.clone()).await.unwrap();
        assert!(matches!(vault.value(&nas, &pin), Err(VaultError::OtherKey { .. })));
        assert!(matches!(vault.pins(&[nas.clone()].into()), Err(VaultError::OtherKey { .. })));
        assert!(matches!(vault.set(&name("bmc"), b"hunter2", "joe").await, Err(VaultError::OtherKey { .. })));
        assert_eq!(path.exists(), other.is_some(), "no second key is made");
    }
}

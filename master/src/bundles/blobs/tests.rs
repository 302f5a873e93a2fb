use super::*;
use crate::config::Secret;
use axum::{
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode};
use std::{collections::BTreeMap, sync::Mutex};

async fn all(blobs: &Blobs, digest: Digest, offset: u64) -> Result<Vec<Bytes>, BlobError> {
    let (_, chunks) = blobs.stream(digest, offset).await?;
    chunks.try_collect().await
}

fn path(dir: &Path, digest: Digest) -> std::path::PathBuf {
    dir.join(key(digest).as_ref())
}

#[tokio::test]
async fn blobs_come_back_whole_from_any_offset() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|n| (n % 251) as u8).collect();
    let digest = blobs.put(bytes.clone()).await.unwrap();
    assert_eq!(blobs.put(bytes.clone()).await.unwrap(), digest, "again is no error");
    assert_eq!(blobs.read(digest).await.unwrap(), bytes);
    for offset in [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK, bytes.len() - 1, bytes.len()] {
        let chunks = all(&blobs, digest, offset as u64).await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        assert_eq!(chunks.concat(), bytes[offset..], "from {offset}");
    }
    let past = all(&blobs, digest, bytes.len() as u64 + 1).await.unwrap_err();
    assert!(matches!(past, BlobError::OutOfRange { .. }), "{past}");
    let empty = blobs.put(Bytes::new()).await.unwrap();
    assert_eq!(all(&blobs, empty, 0).await.unwrap().concat(), b"");
    assert_eq!(blobs.list().await.unwrap().len(), 2);
    blobs.delete(digest).await.unwrap();
    blobs.delete(digest).await.unwrap();
    assert!(matches!(blobs.read(digest).await, Err(BlobError::Missing(_))));
    assert!(matches!(all(&blobs, digest, 0).await, Err(BlobError::Missing(_))));
}

#[tokio::test]
async fn a_damaged_blob_is_never_given_out_whole_and_is_repaired_by_an_upload() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let bytes = vec![7; CHUNK + 10];
    let digest = blobs.put(bytes.clone()).await.unwrap();
    let mut damaged = bytes.clone();
    damaged[3] ^= 1;
    for wrong in [damaged, bytes[..CHUNK].to_vec(), Vec::new()] {
        std::fs::write(path(dir.path(), digest), &wrong).unwrap();
        assert!(matches!(blobs.read(digest).await, Err(BlobError::Damaged(_))));
        let (_, chunks) = blobs.stream(digest, 0).await.unwrap();
        let got: Vec<Result<Bytes, BlobError>> = chunks.collect().await;
        assert!(matches!(got.last(), Some(Err(BlobError::Damaged(_)))));
        let sent: usize = got.iter().flatten().map(Bytes::len).sum();
        assert!(sent < bytes.len(), "all of it was sent");
        blobs.put(bytes.clone()).await.unwrap();
        assert_eq!(blobs.read(digest).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn what_an_interrupted_put_leaves_is_no_blob() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::local(dir.path()).unwrap();
    let digest = blobs.put(&b"bytes"[..]).await.unwrap();
    // As `object_store` names what it has not renamed yet.
    let half = format!("{}#1", path(dir.path(), digest).display());
    std::fs::rename(path(dir.path(), digest), half).unwrap();
    assert!(matches!(blobs.read(digest).await, Err(BlobError::Missing(_))));
    assert!(blobs.list().await.unwrap().is_empty());
    blobs.put(&b"bytes"[..]).await.unwrap();
    blobs.read(digest).await.unwrap();
}

/// As much of S3 as is used here. What matters is that it is not ours that speaks to it.
#[derive(Clone, Default)]
struct Bucket {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    unsigned: Arc<Mutex<u32>>,
}

async fn s3(State(bucket): State<Bucket>, request: Request) -> Response {
    let signed = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=key/"));
    if !signed {
        *bucket.unsigned.lock().unwrap() += 1;
        return StatusCode::FORBIDDEN.into_response();
    }
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches('/').to_owned();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut objects = bucket.objects.lock().unwrap();
    let found = || [("etag", "\"x\""), ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")];
    match parts.method {
        Method::PUT => {
            objects.insert(path, body);
            found().into_response()
        }
        Method::POST if parts.uri.query() == Some("delete") => {
            let body = String::from_utf8_lossy(&body).into_owned();
            let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
            let deleted: String = keys
                .map(|key| {
                    objects.remove(&format!("{path}/{key}"));
                    format!("<Deleted><Key>{key}</Key></Deleted>")
                })
                .collect();
            format!("<DeleteResult>{deleted}</DeleteResult>").into_response()
        }
        Method::GET if parts.uri.query().is_some_and(|query| query.contains("list-type=2")) => {
            let entries: String = objects
                .iter()
                .map(|(key, bytes)| {
                    let key = key.trim_start_matches("bucket/");
                    format!(
                        "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                         <ETag>x</ETag><Size>{}</Size></Contents>",
                        bytes.len()
                    )
                })
                .collect();
            format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>")
                .into_response()
        }
        Method::GET => match objects.get(&path) {
            Some(bytes) => (found(), bytes.clone()).into_response(),
            None => (StatusCode::NOT_FOUND, "<Error><Code>NoSuchKey</Code></Error>").into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

#[tokio::test]
async fn blobs_may_be_kept_in_an_object_store() {
    windlass_identity::install_provider();
    let bucket = Bucket::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(s3).with_state(bucket.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let config = BlobsConfig {
        url: Some("s3://bucket/grid/one".into()),
        endpoint: Some(endpoint),
        region: Some("here".into()),
        access_key_id: Some("key".into()),
        secret_access_key: Some(Secret("hush".into())),
    };
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&config, dir.path()).unwrap();
    let bytes = vec![3; CHUNK + 5];
    let digest = blobs.put(bytes.clone()).await.unwrap();
    blobs.put(bytes.clone()).await.unwrap();
    let keys: Vec<String> = bucket.objects.lock().unwrap().keys().cloned().collect();
    let hex = digest.hex();
    assert_eq!(keys, [format!("bucket/grid/one/sha256/{}/{hex}", &hex[..2])]);
    assert_eq!(blobs.read(digest).await.unwrap(), bytes);
    assert_eq!(all(&blobs, digest, 7).await.unwrap().concat(), bytes[7..]);
    assert_eq!(blobs.list().await.unwrap(), [(digest, 1_704_067_200_000)]);
    bucket.objects.lock().unwrap().insert(keys[0].clone(), Bytes::from_static(b"other"));
    assert!(matches!(blobs.read(digest).await, Err(BlobError::Damaged(_))));
    blobs.delete(digest).await.unwrap();
    assert!(matches!(blobs.read(digest).await, Err(BlobError::Missing(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is kept locally");
    assert_eq!(*bucket.unsigned.lock().unwrap(), 0);
    serving.abort();
    assert!(matches!(blobs.put(&b"x"[..]).await, Err(BlobError::Store(_))), "an object store that is down");
}

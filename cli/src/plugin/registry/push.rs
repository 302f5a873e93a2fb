//! To a registry.

use super::{
    RegistryError,
    pull::fallback_tag,
    session::{INDEX_TYPE, Session},
};
use http::HeaderValue;
use serde_json::{Value, json};
use windlass_bundle::{
    Package,
    oci::{Descriptor, EMPTY, IMAGE_TYPE, Image, LAYERS, SignatureImage},
};
use windlass_types::Digest;

/// Push a package; what it is called there, by digest.
pub async fn push(session: &Session, package: &Package, move_tag: bool) -> Result<String, RegistryError> {
    session.begin().await;
    let image = package.bundle.image();
    let digest = image.digest();
    if let Some(wanted) = session.place.digest
        && wanted != digest
    {
        let what = "the package".to_owned();
        return Err(RegistryError::WrongDigest {
            what,
            wanted: wanted.to_string(),
            found: digest.to_string(),
        });
    }
    let tag = match &session.place.tag {
        Some(tag) => tag.clone(),
        None => package.bundle.manifest.version.to_string(),
    };
    let tagged = session.place.tagged(&tag);
    let what = format!("the tag `{tag}`");
    if !move_tag && let Some(there) = session.document_if_any(&tagged, &what).await? {
        let found = Digest::of(&there);
        if found != digest {
            return Err(RegistryError::TagTaken { tag, found, ours: digest });
        }
    }

    blob(session, &image.config(), "the configuration").await?;
    for part in LAYERS {
        blob(session, package.bundle.part(part), &format!("`{part}`")).await?;
    }
    // By digest first: the signatures' subject is there before them, and the tag comes last, so that
    // it never names a bundle without its signatures.
    manifest(session, &session.place.exact(digest), image.manifest(), "the bundle").await?;
    signatures(session, package, &image).await?;
    manifest(session, &tagged, image.manifest(), &what).await?;

    let stored = Digest::of(&session.document(&tagged, &what).await?);
    if stored != digest {
        return Err(RegistryError::TagMoved { tag, wanted: digest, found: stored });
    }
    Ok(session.place.by_digest(digest))
}

async fn blob(session: &Session, bytes: &[u8], what: &str) -> Result<(), RegistryError> {
    let digest = Digest::of(bytes);
    let place = session.place.exact(digest);
    let name = digest.to_string();
    let there = session.client.blob_exists(&place, &name).await;
    if there.map_err(|error| session.error(what, error))? {
        return Ok(());
    }
    let pushed = session.client.push_blob(&place, bytes.to_vec(), &name).await;
    pushed.map(drop).map_err(|error| session.error(what, error))
}

async fn manifest(
    session: &Session,
    place: &oci_client::Reference,
    bytes: &[u8],
    what: &str,
) -> Result<(), RegistryError> {
    let pushed =
        session.client.push_manifest_raw(place, bytes.to_vec(), HeaderValue::from_static(IMAGE_TYPE)).await;
    pushed.map(drop).map_err(|error| session.error(what, error))
}

async fn signatures(session: &Session, package: &Package, image: &Image) -> Result<(), RegistryError> {
    if package.signatures().is_empty() {
        return Ok(());
    }
    blob(session, EMPTY, "the empty configuration").await?;
    let mut added = Vec::new();
    for signature in package.signatures() {
        let artifact = SignatureImage::of(signature, image);
        let what = format!("the signature by {}", signature.key());
        blob(session, artifact.layer(), &what).await?;
        let place = session.place.exact(Digest::of(artifact.manifest()));
        manifest(session, &place, artifact.manifest(), &what).await?;
        added.push(artifact.descriptor());
    }
    index(session, image.digest(), &added).await
}

/// List the signatures under the tag that takes the place of the referrers API, beside whatever else
/// is listed there. Registries with that API do not need it, and are not hurt by it.
async fn index(session: &Session, bundle: Digest, added: &[Descriptor]) -> Result<(), RegistryError> {
    let tag = fallback_tag(bundle);
    let place = session.place.tagged(&tag);
    let what = "the list of signatures";
    let there = session.document_if_any(&place, what).await?;
    let Some(index) = with(there.as_deref(), added).map_err(|why| RegistryError::BadIndex { tag, why })?
    else {
        return Ok(());
    };
    let kind = HeaderValue::from_static(INDEX_TYPE);
    let pushed = session.client.push_manifest_raw(&place, index, kind).await;
    pushed.map(drop).map_err(|error| session.error(what, error))
}

/// An index with some entries added; none if it has them all. What others listed stays as it is.
fn with(index: Option<&[u8]>, added: &[Descriptor]) -> Result<Option<Vec<u8>>, String> {
    let mut index: Value = match index {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
        None => json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [] }),
    };
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or("it lists nothing")?;
    let before = entries.len();
    for descriptor in added {
        let digest = descriptor.digest.to_string();
        if !entries.iter().any(|entry| entry["digest"] == *digest) {
            entries.push(serde_json::to_value(descriptor).map_err(|error| error.to_string())?);
        }
    }
    if entries.len() == before {
        return Ok(None);
    }
    serde_json::to_vec(&index).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_listed_stays() {
        let ours = Descriptor::of(IMAGE_TYPE, b"ours");
        let new = with(None, std::slice::from_ref(&ours)).unwrap().unwrap();
        assert_eq!(with(Some(&new), std::slice::from_ref(&ours)), Ok(None));
        let other = json!({ "digest": "sha256:x", "mediaType": "a/b", "size": 1, "platform": { "os": "x" } });
        let index = json!({ "schemaVersion": 2, "manifests": [other], "annotations": { "k": "v" } });
        let text = serde_json::to_vec(&index).unwrap();
        let both: Value = serde_json::from_slice(&with(Some(&text), &[ours]).unwrap().unwrap()).unwrap();
        assert_eq!((&both["manifests"][0], &both["annotations"]), (&other, &json!({ "k": "v" })));
        assert_eq!(both["manifests"].as_array().unwrap().len(), 2);
        for bad in ["", "[]", "{}", "{\"manifests\":{}}"] {
            assert!(with(Some(bad.as_bytes()), &[]).is_err(), "{bad}");
        }
    }
}

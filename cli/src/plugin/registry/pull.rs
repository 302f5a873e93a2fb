//! From a registry.

use super::{RegistryError, session::Session};
use oci_client::manifest::OciImageIndex;
use std::collections::BTreeMap;
use windlass_bundle::{
    Bundle, Image, Package, Part, Signature,
    oci::{LAYERS, MAX_SIGNATURES, SIGNATURE_TYPE, SignatureImage},
};
use windlass_types::Digest;

/// So many signatures of a bundle are looked at: anyone who may push can add more.
const MAX_LOOKED_AT: usize = 4 * MAX_SIGNATURES;

/// A package, and what of the registry is not in it.
pub struct Pulled {
    pub package: Package,
    /// Signatures that are no good, each with why.
    pub left_out: Vec<String>,
}

/// Pull a bundle with its signatures.
pub async fn pull(session: &Session) -> Result<Pulled, RegistryError> {
    session.begin().await;
    let image = image(session).await?;
    let config = image.config_layer();
    let bytes = session.blob(config.digest, config.size, "the configuration").await?;
    if bytes != image.config() {
        let what = session.place.to_string();
        return Err(RegistryError::NotABundle { what, source: windlass_bundle::oci::ImageError::Differs });
    }
    let mut parts = BTreeMap::new();
    for part in LAYERS {
        let layer = image.layer(part);
        let name = part.to_string();
        parts.insert(name.clone(), session.blob(layer.digest, layer.size, &format!("`{name}`")).await?);
    }
    let mut take = |part: Part| parts.remove(&part.to_string()).unwrap_or_default();
    let (manifest, component, wit) = (take(Part::Manifest), take(Part::Component), take(Part::Wit));
    let bundle = Bundle::from_image(&image, manifest, component, wit)?;
    let mut pulled = Pulled { package: Package::new(bundle, Vec::new())?, left_out: Vec::new() };
    signatures(session, &image, &mut pulled).await?;
    Ok(pulled)
}

/// The image that was asked for.
async fn image(session: &Session) -> Result<Image, RegistryError> {
    let place = &session.place;
    let what = place.to_string();
    let (bytes, wanted) = match (&place.tag, place.digest) {
        (Some(tag), wanted) => (session.document(&place.tagged(tag), &what).await?, wanted),
        (None, Some(digest)) => (session.document(&place.exact(digest), &what).await?, Some(digest)),
        (None, None) => {
            let message = "give a tag (`…:0.2.0`) or a digest (`…@sha256:…`)".to_owned();
            return Err(RegistryError::Refused { what, message });
        }
    };
    let found = Digest::of(&bytes);
    match (&place.tag, wanted) {
        (Some(tag), Some(wanted)) if found != wanted => {
            return Err(RegistryError::TagMoved { tag: tag.clone(), wanted, found });
        }
        (None, Some(wanted)) if found != wanted => {
            let (wanted, found) = (wanted.to_string(), found.to_string());
            return Err(RegistryError::WrongDigest { what, wanted, found });
        }
        _ => {}
    }
    Image::parse(&bytes).map_err(|source| RegistryError::NotABundle { what, source })
}

/// Add the signatures that the registry has for a bundle.
async fn signatures(session: &Session, image: &Image, to: &mut Pulled) -> Result<(), RegistryError> {
    let mut found = referrers(session, image.digest()).await?;
    if found.len() > MAX_LOOKED_AT {
        to.left_out.push(format!("all but {MAX_LOOKED_AT} of {} signatures", found.len()));
        found.truncate(MAX_LOOKED_AT);
    }
    for digest in found {
        let what = format!("the signature {digest}");
        let bytes = session.document(&session.place.exact(digest), &what).await?;
        if Digest::of(&bytes) != digest {
            let (wanted, found) = (digest.to_string(), Digest::of(&bytes).to_string());
            return Err(RegistryError::WrongDigest { what, wanted, found });
        }
        // Whoever may push can attach rubbish. It is told and left out: the bundle is none the worse.
        let layer = match SignatureImage::parse(&bytes, image) {
            Ok(layer) => layer,
            Err(error) => {
                to.left_out.push(format!("{what}: {error}"));
                continue;
            }
        };
        let bytes = session.blob(layer.digest, layer.size, &what).await?;
        let added = match Signature::from_json(&bytes) {
            Ok(signature) => {
                to.package.add(signature).map_err(|error| match std::error::Error::source(&error) {
                    Some(cause) => cause.to_string(),
                    None => error.to_string(),
                })
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = added {
            to.left_out.push(format!("{what}: {why}"));
        }
    }
    Ok(())
}

/// Digests of the signatures' manifests, by the referrers API and by the tag that takes its place.
async fn referrers(session: &Session, bundle: Digest) -> Result<Vec<Digest>, RegistryError> {
    let place = session.place.exact(bundle);
    let mut all = Vec::new();
    let mut add = |index: OciImageIndex| {
        let ours = index
            .manifests
            .into_iter()
            .filter(|entry| entry.artifact_type.as_deref() == Some(SIGNATURE_TYPE))
            .filter_map(|entry| entry.digest.parse::<Digest>().ok());
        for digest in ours {
            if !all.contains(&digest) {
                all.push(digest);
            }
        }
    };
    let what = "the list of signatures";
    let listed = session.client.pull_referrers(&place, Some(SIGNATURE_TYPE)).await;
    add(listed.map_err(|error| session.error(what, error))?);
    // The library takes any error here to mean that there are no signatures; this does not.
    let tag = fallback_tag(bundle);
    if let Some(bytes) = session.document_if_any(&session.place.tagged(&tag), what).await? {
        let index = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::BadIndex { tag, why: error.to_string() })?;
        add(index);
    }
    // The order must not depend on the registry's.
    all.sort_unstable();
    Ok(all)
}

/// The tag that takes the place of the referrers API.
pub fn fallback_tag(bundle: Digest) -> String {
    format!("sha256-{}", bundle.hex())
}

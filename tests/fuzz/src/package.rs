//! A bundle as an OCI image and as a file.

use std::fmt::Write as _;
use windlass_bundle::{
    Bundle, Part,
    oci::{Image, Package, SignatureImage},
};
use windlass_types::Digest;

/// The image manifest of a bundle, or an error. It is kept as it was, and names parts of sizes that
/// may be.
pub(crate) fn image(bytes: &[u8]) {
    let Ok(image) = Image::parse(bytes) else { return };
    assert_eq!(image.manifest(), bytes);
    assert_eq!(image.digest(), Digest::of(bytes));
    for part in [Part::Manifest, Part::Component, Part::Wit] {
        assert!(image.layer(part).size <= part.max_bytes() as u64);
    }
    // Parts that are not those it names are none of its.
    let component = b"\0asm\x0d\0\x01\0".to_vec();
    let manifest = b"name = \"m\"\nversion = \"0.1.0\"\n".to_vec();
    if let Ok(bundle) = Bundle::from_image(&image, manifest, component.clone(), component) {
        assert_eq!(bundle.image().manifest(), bytes);
    }
    assert!(SignatureImage::parse(bytes, &image).is_err(), "an image is not a signature of itself");
}

/// A package made of what the fuzzer says, so that it can get past the digests: see [`tar`].
pub(crate) fn package(bytes: &[u8]) {
    let tar = tar(bytes);
    let Ok(package) = Package::read(&tar[..]) else { return };
    let bundle = &package.bundle;
    let written = package.to_bytes();
    let back = Package::read(&written[..]).expect("what is written can be read");
    assert_eq!(back.to_bytes(), written);
    assert_eq!((back.bundle.digest, &back.bundle.component), (bundle.digest, &bundle.component));
    assert_eq!(back.signatures(), package.signatures());
    assert_eq!(bundle.image().digest(), bundle.digest);
    for signature in package.signatures() {
        let manifest = &bundle.manifest;
        signature.verify_over(&manifest.name, manifest.version, bundle.digest).expect("it was checked");
    }
}

/// Bytes as a tar: raw, if they begin with `!`; otherwise entries, each a line `kind name length`
/// followed by that many bytes. In an entry `@N@` stands for the digest of entry N in hexadecimal and
/// `#N#` for its size; entries refer to later ones only, so those are written out first. The name
/// `@` stands for that of a blob with the right digest.
fn tar(bytes: &[u8]) -> Vec<u8> {
    if let Some(raw) = bytes.strip_prefix(b"!") {
        return raw.to_vec();
    }
    let mut rest = bytes;
    let mut entries: Vec<(u8, String, Vec<u8>)> = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        let mut words = head.split(' ');
        let kind = words.next().and_then(|word| word.bytes().next()).unwrap_or(b'0');
        let name = words.next().unwrap_or_default().to_owned();
        let length = words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(0).min(rest.len());
        entries.push((kind, name, rest[..length].to_vec()));
        rest = &rest[length..];
        if entries.len() > 100 {
            break;
        }
    }
    let mut known: Vec<(String, usize)> = vec![(String::new(), 0); entries.len()];
    for at in (0..entries.len()).rev() {
        let content = resolved(&entries[at].2, &known);
        let digest = Digest::of(&content);
        known[at] = (hex(digest), content.len());
        if entries[at].1 == "@" {
            entries[at].1 = format!("blobs/sha256/{}", hex(digest));
        }
        entries[at].2 = content;
    }
    let mut tar = Vec::new();
    for (kind, name, content) in entries {
        let mut header = tar::Header::new_ustar();
        let length = name.len().min(100);
        header.as_old_mut().name[..length].copy_from_slice(&name.as_bytes()[..length]);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend([0; 1024]);
    tar
}

fn hex(digest: Digest) -> String {
    let mut hex = String::new();
    for byte in digest.as_bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// References written out; what is none stays.
fn resolved(content: &[u8], known: &[(String, usize)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some((&byte, after)) = rest.split_first() {
        let reference = after.iter().take(3).position(|end| *end == byte).and_then(|end| {
            let index: usize = std::str::from_utf8(&after[..end]).ok()?.parse().ok()?;
            Some((known.get(index)?, end))
        });
        match (byte, reference) {
            (b'@', Some(((digest, _), end))) => {
                out.extend(digest.bytes());
                rest = &after[end + 1..];
            }
            (b'#', Some(((_, size), end))) => {
                out.extend(size.to_string().bytes());
                rest = &after[end + 1..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzer begins with gets all the way through.
    #[test]
    fn seeds_are_packages() {
        for (seed, signatures) in [
            (&include_bytes!("../corpus/package/signed")[..], 1),
            (include_bytes!("../corpus/package/signed.tar"), 1),
            (include_bytes!("../corpus/package/unsigned"), 0),
        ] {
            let package = Package::read(&tar(seed)[..]).expect("a package");
            assert_eq!(package.signatures().len(), signatures);
        }
    }
}

//! Makes the seeds that are not written by hand.

use std::{fs, path::Path};
use windlass_bundle::{
    Bundle, Part,
    oci::{EMPTY, Image, Package, SignatureImage},
    signature::{SecretKey, Statement},
};

/// `cargo nextest run -p windlass-fuzz --run-ignored only` writes them anew, with a new key.
#[test]
#[ignore = "writes into the source folder"]
fn make() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    };
    let component = b"\0asm\x0d\0\x01\0component".to_vec();
    let wit = b"\0asm\x0d\0\x01\0wit".to_vec();
    let manifest = b"name = \"demo\"\nversion = \"1.2.3\"\n".to_vec();
    let bundle = Bundle::from_parts(manifest, component, wit).expect("a bundle");
    let key = SecretKey::generate();
    let signature = key.sign(Statement {
        plugin: bundle.manifest.name.clone(),
        version: bundle.manifest.version,
        digest: bundle.digest,
        signed_ms: 1_800_000_000_000,
        expires_ms: None,
    });
    write("signed.json", &signature.to_json());
    write("corpus/signature/demo.json", &signature.to_json());
    let public = key.public();
    let trust = format!(
        "[keys.release]\npublic = \"{public}\"\nexpires = 2100-01-01T00:00:00Z\n\n[[rules]]\nplugins = \"de*\"\nkeys = [\"release\"]\nthreshold = 1\nminimum_version = \"1.0.0\"\n"
    );
    write("corpus/trust/demo.toml", trust.as_bytes());
    let image = bundle.image();
    write("corpus/image/demo.json", image.manifest());
    for (name, signatures) in [("unsigned", vec![]), ("signed", vec![signature])] {
        let package = Package::new(bundle.clone(), signatures).expect("a package");
        write(&format!("corpus/package/{name}"), &entries(&package, &image));
        write(&format!("corpus/package/{name}.tar"), &[b"!", &package.to_bytes()[..]].concat());
    }
}

/// A package in the form of the target: see `package::tar`.
fn entries(package: &Package, image: &Image) -> Vec<u8> {
    let signed: Vec<SignatureImage> =
        package.signatures().iter().map(|signature| SignatureImage::of(signature, image)).collect();
    let tar = package.to_bytes();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut index = Vec::new();
    for entry in archive.entries().expect("entries").take(2) {
        let mut entry = entry.expect("an entry");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
        index.push(bytes);
    }
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    for signature in &signed {
        blobs.push(signature.manifest().to_vec());
    }
    blobs.push(image.manifest().to_vec());
    for signature in &signed {
        blobs.push(signature.layer().to_vec());
    }
    if !signed.is_empty() {
        blobs.push(EMPTY.to_vec());
    }
    blobs.push(image.config());
    blobs.extend([Part::Component, Part::Manifest, Part::Wit].map(|part| match part {
        Part::Component => package.bundle.component.clone(),
        Part::Manifest => package.bundle.manifest_text.clone(),
        Part::Wit => package.bundle.wit.clone(),
    }));
    let mut all: Vec<(&str, Vec<u8>)> =
        vec![("oci-layout", index[0].clone()), ("index.json", index[1].clone())];
    all.extend(blobs.into_iter().map(|blob| ("@", blob)));
    let known: Vec<(String, usize)> = all.iter().map(|(_, bytes)| (hex(bytes), bytes.len())).collect();
    let mut out = Vec::new();
    for (at, (name, bytes)) in all.iter().enumerate() {
        let mut text = bytes.clone();
        // The signature's own document names the bundle by its digest, which it is over: as it is.
        let refers = !bytes.starts_with(b"{\"windlass_signature\"") && bytes.starts_with(b"{");
        if let (true, Ok(mut json)) = (refers, String::from_utf8(bytes.clone())) {
            for (other, (digest, size)) in known.iter().enumerate().skip(at + 1) {
                json = json.replace(
                    &format!("{digest}\",\"size\":{size}"),
                    &format!("@{other}@\",\"size\":#{other}#"),
                );
                json = json.replace(digest, &format!("@{other}@"));
            }
            text = json.into_bytes();
        }
        out.extend(format!("0 {name} {}\n", text.len()).bytes());
        out.extend(text);
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    windlass_types::Digest::of(bytes).to_string().trim_start_matches("sha256:").to_owned()
}

use super::*;
use crate::oci::package::{Package, PackageError};
use proptest::prelude::*;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0component";
const WIT: &[u8] = b"\0asm\x0d\0\x01\0wit";

fn bundle(version: &str) -> Bundle {
    let manifest = format!("name = \"demo\"\nversion = \"{version}\"\n");
    Bundle::from_parts(manifest.into_bytes(), COMPONENT.into(), WIT.into()).expect("a bundle")
}

fn package(version: &str) -> Package {
    Package::new(bundle(version), Vec::new()).expect("a package")
}

/// The entries of a tar, to build another one of.
fn entries(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("a name");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
        (name, bytes)
    });
    entries.collect()
}

fn tar(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, name, &bytes[..]).expect("appended");
    }
    tar.into_inner().expect("finished")
}

fn refused(change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> String {
    let mut entries = entries(&package("1.0.0").to_bytes());
    change(&mut entries);
    Package::read(&tar(&entries)[..]).expect_err("refused").to_string()
}

#[test]
fn a_package_reads_back_and_is_always_the_same() {
    let package = package("1.0.0");
    let bytes = package.to_bytes();
    assert_eq!(bytes, package.to_bytes());
    let back = Package::read(&bytes[..]).expect("read");
    assert_eq!(back.bundle.digest, package.bundle.digest);
    assert_eq!(back.bundle.component, COMPONENT);
    assert_eq!(back.to_bytes(), bytes);
    // Folders, and names that begin with `./`, are what tar(1) makes of an image layout.
    let mut written = entries(&bytes);
    for (name, _) in &mut written {
        name.insert_str(0, "./");
    }
    assert!(Package::read(&tar(&written)[..]).is_ok());
}

#[test]
fn the_image_follows_from_the_parts() {
    let bundle = bundle("1.0.0");
    let image = bundle.image();
    let parse = Image::parse(image.manifest()).expect("an image");
    assert_eq!(parse, image);
    assert_eq!(parse.digest(), bundle.digest);
    assert_eq!(parse.layer(Part::Wit).digest, Digest::of(WIT));
    let of = |image: &Image, wit: &[u8]| {
        Bundle::from_image(image, bundle.manifest_text.clone(), COMPONENT.into(), wit.into())
    };
    assert_eq!(of(&image, WIT).expect("a bundle").digest, bundle.digest);
    let altered = of(&image, b"\0asm\x0d\0\x01\0wix").expect_err("refused").to_string();
    assert!(altered.starts_with("wit.wasm has the digest"), "{altered}");
    // An image with one more space, or one more annotation, is not this bundle's.
    for (from, to) in [("\"size\":8", "\"size\": 8"), (":{\"org.", ":{\"a\":\"b\",\"org.")] {
        let text = String::from_utf8(image.manifest().into()).expect("text");
        let text = text.replacen(from, to, 1).replacen("\"size\":17", "\"size\": 17", 1);
        let other = Image::parse(text.as_bytes()).expect("an image");
        assert_ne!(other.digest(), image.digest());
        assert!(matches!(of(&other, WIT), Err(BundleError::Image(ImageError::Differs))), "{text}");
        let check = other.check_without_component(&bundle.manifest, &bundle.manifest_text, WIT);
        assert_eq!(check, Err(ImageError::Differs));
    }
    assert_eq!(image.check_without_component(&bundle.manifest, &bundle.manifest_text, WIT), Ok(()));
}

#[test]
fn what_does_not_belong_in_a_package_is_refused() {
    let extra = |name: &str| refused(|entries| entries.push((name.to_owned(), b"x".to_vec())));
    assert_eq!(extra("readme"), "entry `readme` of the package: has no place in a bundle");
    assert!(extra("blobs/sha256/xyz").contains("has no place"));
    let stray = format!("blobs/sha256/{}", Digest::of(b"x").hex());
    assert_eq!(extra(&stray), format!("nothing in the package refers to `{stray}`"));
    let other = format!("blobs/sha256/{}", Digest::of(b"y").hex());
    assert!(extra(&other).contains("does not have the digest it is named by"));
    assert!(refused(|entries| entries.push(entries[0].clone())).ends_with("is there twice"));
    for index in 0..entries(&package("1.0.0").to_bytes()).len() {
        let error = refused(|entries| drop(entries.remove(index)));
        assert!(error.starts_with("the package has no `"), "{error}");
    }
    assert!(refused(|entries| entries[0].1 = b"{}".to_vec()).starts_with("`oci-layout` of the package"));
    let two = refused(|entries| {
        let text = String::from_utf8(entries[1].1.clone()).expect("text");
        let (head, rest) = text.split_once('[').expect("a list");
        let manifest = rest.strip_suffix("]}").expect("its end");
        entries[1].1 = format!("{head}[{manifest},{manifest}]}}").into_bytes();
    });
    assert!(two.contains("it lists 2 bundles"), "{two}");
}

#[test]
fn only_plain_tars_are_read() {
    let bytes = package("1.0.0").to_bytes();
    for cut in [0, 100, 512, 700, 1024, bytes.len() / 2] {
        assert!(Package::read(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(matches!(Package::read(&[0x1f, 0x8b, 8, 0][..]), Err(PackageError::Compressed)));
    let mut trailing = bytes.clone();
    trailing.extend([0; 512]);
    assert!(Package::read(&trailing[..]).is_ok(), "padding");
    trailing.push(1);
    assert!(Package::read(&trailing[..]).is_err());
    let endless = bytes.clone();
    let endless = std::io::Read::chain(&endless[..], std::io::repeat(0));
    assert!(matches!(Package::read(endless), Err(PackageError::TooLarge)));
}

proptest! {
    #[test]
    fn an_altered_package_is_refused_or_the_same(at in 0usize..6000, bit in 0u8..8) {
        let package = package("1.0.0");
        let mut bytes = package.to_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // Some bits of a tar say nothing that counts, such as the owner of an entry.
        if let Ok(read) = Package::read(&bytes[..]) {
            prop_assert_eq!(read.bundle.digest, package.bundle.digest);
            prop_assert_eq!(read.to_bytes(), package.to_bytes());
        }
    }

    #[test]
    fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = Package::read(&bytes[..]);
        let _ = Image::parse(&bytes);
    }
}

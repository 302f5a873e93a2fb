//! Packages made by somebody who means harm. Each is a good one with one thing changed, and refused
//! with the reason given here; nothing is ever written, so there is nothing else that could happen.

use super::*;
use crate::{
    oci::package::{Package, PackageError},
    signature::{SecretKey, Statement},
};
use std::time::{Duration, Instant};
use tar::EntryType;

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0component";
const WIT: &[u8] = b"\0asm\x0d\0\x01\0wit";

fn bundle(version: &str) -> Bundle {
    let manifest = format!("name = \"demo\"\nversion = \"{version}\"\n");
    Bundle::from_parts(manifest.into_bytes(), COMPONENT.into(), WIT.into()).expect("a bundle")
}

fn signature(bundle: &Bundle, signed_ms: i64) -> Signature {
    let statement = Statement {
        plugin: bundle.manifest.name.clone(),
        version: bundle.manifest.version,
        digest: bundle.digest,
        signed_ms,
        expires_ms: None,
    };
    SecretKey::generate().sign(statement)
}

/// One entry, with whatever its header says.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    kind: EntryType,
    link: &'static str,
    size: Option<u64>,
    bytes: Vec<u8>,
}

impl Entry {
    fn file(name: impl Into<Vec<u8>>, bytes: impl Into<Vec<u8>>) -> Entry {
        Entry { name: name.into(), kind: EntryType::Regular, link: "", size: None, bytes: bytes.into() }
    }

    fn of(kind: EntryType, name: &str, link: &'static str) -> Entry {
        Entry { kind, link, ..Entry::file(name, *b"") }
    }

    fn blob(bytes: &[u8]) -> Entry {
        Entry::file(format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes)
    }

    fn write(&self, tar: &mut Vec<u8>) {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..self.name.len()].copy_from_slice(&self.name);
        header.as_old_mut().linkname[..self.link.len()].copy_from_slice(self.link.as_bytes());
        header.set_entry_type(self.kind);
        header.set_mode(0o644);
        header.set_size(self.size.unwrap_or(self.bytes.len() as u64));
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(&self.bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
}

/// The entries of a good package: `oci-layout`, `index.json`, and the blobs.
struct Layout(Vec<Entry>);

impl Layout {
    fn good() -> Layout {
        Layout::of(&Package::new(bundle("1.0.0"), Vec::new()).expect("a package"))
    }

    fn of(package: &Package) -> Layout {
        let tar = package.to_bytes();
        let mut archive = tar::Archive::new(&tar[..]);
        let entries = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("read");
            Entry::file(entry.path_bytes().into_owned(), bytes)
        });
        Layout(entries.collect())
    }

    fn index(&mut self) -> &mut Vec<u8> {
        &mut self.0[1].bytes
    }

    fn with(mut self, entry: Entry) -> Layout {
        self.0.push(entry);
        self
    }

    /// The image replaced by one that says something else, and the index to match.
    fn with_image(mut self, change: impl Fn(&str) -> String) -> Layout {
        let old = self.0.remove(2);
        let text = String::from_utf8(old.bytes.clone()).expect("text");
        let new = Entry::blob(change(&text).as_bytes());
        assert_ne!(new.bytes, old.bytes, "the change found nothing to change");
        let replace = |text: &str| {
            text.replace(&Digest::of(&old.bytes).hex(), &Digest::of(&new.bytes).hex())
                .replace(&format!("\"size\":{}", old.bytes.len()), &format!("\"size\":{}", new.bytes.len()))
        };
        let index = replace(std::str::from_utf8(self.index()).expect("text"));
        *self.index() = index.into_bytes();
        self.0.insert(2, new);
        self
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        self.0.iter().for_each(|entry| entry.write(&mut tar));
        tar.extend([0; 1024]);
        tar
    }

    fn read(&self) -> Result<Package, PackageError> {
        Package::read(&self.tar()[..])
    }
}

/// The error with its causes, short enough to look at.
fn why(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", why(source))).unwrap_or_default();
    let text = format!("{error}{source}");
    let hex = |word: &str| word.len() >= 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    text.split_inclusive(|c: char| !c.is_ascii_alphanumeric())
        .map(|word| {
            let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            if hex(bare) { word.replace(bare, "DIGEST") } else { word.to_owned() }
        })
        .collect()
}

#[test]
fn hostile_packages_are_refused() {
    let good = Layout::good();
    good.read().expect("the unchanged one is good");
    let index = String::from_utf8(Layout::good().index().clone()).expect("text");
    let indexed = |text: &str| {
        let mut layout = Layout::good();
        assert_ne!(text.as_bytes(), layout.index(), "the change found nothing to change");
        *layout.index() = text.into();
        layout
    };
    let descriptor = index.split_once('[').and_then(|(_, rest)| rest.strip_suffix("]}")).expect("a list");
    let nested = descriptor.replace(IMAGE_TYPE, "application/vnd.oci.image.index.v1+json");
    let pax = Entry { kind: EntryType::XHeader, ..Entry::file("x", *b"19 path=../escape\n\n") };
    let long = Entry { kind: EntryType::GNULongName, ..Entry::file("././@LongLink", *b"../escape\0") };
    let component = format!("\"size\":{}", COMPONENT.len());
    let many = |count: usize, entry: &dyn Fn(usize) -> Entry| {
        let mut layout = Layout::good();
        layout.0.extend((0..count).map(entry));
        layout
    };
    let cases: Vec<(&str, Layout)> = vec![
        // Names and kinds of entries.
        ("a name that leads out", Layout::good().with(Entry::file("../escape", *b"x"))),
        ("one that leads out below", Layout::good().with(Entry::file("blobs/sha256/../../../escape", *b"x"))),
        ("an absolute name", Layout::good().with(Entry::file("/etc/cron.d/escape", *b"x"))),
        ("a name that is not text", Layout::good().with(Entry::file(*b"\xff\xfe", *b"x"))),
        ("no name", Layout::good().with(Entry::file("", *b"x"))),
        ("a symbolic link", Layout::good().with(Entry::of(EntryType::Symlink, "blobs/sha256", "/etc"))),
        ("a hard link", Layout::good().with(Entry::of(EntryType::Link, "index.json", "/etc/shadow"))),
        ("a device", Layout::good().with(Entry::of(EntryType::Char, "blobs/sha256/sda", ""))),
        ("a block device", Layout::good().with(Entry::of(EntryType::Block, "blobs/sha256/sda", ""))),
        ("a pipe", Layout::good().with(Entry::of(EntryType::Fifo, "index.json", ""))),
        ("a folder", Layout::good().with(Entry::of(EntryType::Directory, "blobs/sha512/", ""))),
        (
            "a folder with content",
            Layout::good().with(Entry { kind: EntryType::Directory, ..Entry::file("blobs/", *b"x") }),
        ),
        ("a sparse file", Layout::good().with(Entry::of(EntryType::GNUSparse, "blobs/sha256/x", ""))),
        ("a long name of GNU", Layout::good().with(long)),
        ("attributes of POSIX", Layout::good().with(pax)),
        ("the same name twice", Layout::good().with(Entry::file("index.json", *b"{}"))),
        ("the same name, spelled otherwise", Layout::good().with(Entry::file("./index.json", *b"{}"))),
        // Amounts.
        ("a size of 8 GiB", Layout::good().with(Entry { size: Some(8 << 30), ..Entry::blob(b"x") })),
        ("a size of 2^63", Layout::good().with(Entry { size: Some(1 << 63), ..Entry::blob(b"x") })),
        ("a size past the end", {
            let mut layout = Layout::good();
            layout.0.last_mut().expect("one").size = Some(60 << 20);
            layout
        }),
        ("a large document", Layout::good().with(Entry::file("oci-layout", vec![b' '; 65 << 10]))),
        ("10,000 blobs", many(10_000, &|n| Entry::blob(&n.to_le_bytes()))),
        ("100,000 folders", many(100_000, &|_| Entry::of(EntryType::Directory, "blobs/", ""))),
        // Digests and descriptors.
        (
            "a blob with another digest",
            Layout::good().with(Entry { bytes: b"y".to_vec(), ..Entry::blob(b"x") }),
        ),
        ("another size in the index", indexed(&index.replace("\"size\":", "\"size\":1"))),
        (
            "another size in the image",
            Layout::good().with_image(|text| text.replace(&component, "\"size\":18")),
        ),
        ("a negative size", Layout::good().with_image(|text| text.replace(&component, "\"size\":-1"))),
        (
            "a size past 64 bits",
            Layout::good().with_image(|text| text.replace(&component, "\"size\":18446744073709551633")),
        ),
        ("the digest of nothing", indexed(&index.replace("sha256:", "sha512:"))),
        ("a digest in upper case", indexed(&index.to_uppercase())),
        (
            "a layer twice",
            Layout::good().with_image(|text| {
                let (_, component) = text.split_once("\"layers\":[").expect("layers");
                let (component, _) = component.split_once("},").expect("a layer");
                text.replacen("\"layers\":[", &format!("\"layers\":[{component}}},"), 1)
            }),
        ),
        (
            "one layer for two parts",
            Layout::good().with_image(|text| {
                text.replace(&Digest::of(WIT).hex(), &Digest::of(COMPONENT).hex())
                    .replace(&format!("\"size\":{}", WIT.len()), &component)
            }),
        ),
        (
            "a compressed layer",
            Layout::good().with_image(|text| text.replace("application/wasm", "application/wasm+gzip")),
        ),
        (
            "a layer from elsewhere",
            Layout::good().with_image(|text| {
                text.replacen(
                    "\"mediaType\":\"application/wasm\"",
                    "\"mediaType\":\"application/wasm\",\"urls\":[\"http://evil\"]",
                    1,
                )
            }),
        ),
        ("data in a descriptor", indexed(&index.replacen("\"size\"", "\"data\":\"AAAA\",\"size\"", 1))),
        (
            "an image of something else",
            Layout::good().with_image(|text| text.replace(BUNDLE_TYPE, "application/evil")),
        ),
        (
            "an image with a subject",
            Layout::good().with_image(|text| {
                text.replacen("\"layers\"", &format!("\"subject\":{descriptor},\"layers\""), 1)
            }),
        ),
        ("an image of another name", Layout::good().with_image(|text| text.replace("\"demo\"", "\"zfs\""))),
        ("a configuration of its own", {
            let mut layout = Layout::good();
            let config = layout.0.remove(3);
            let new = Entry::blob(b"{\"env\":[\"LD_PRELOAD=x\"]}");
            layout.0.insert(3, new.clone());
            layout.with_image(|text| {
                text.replace(&Digest::of(&config.bytes).hex(), &Digest::of(&new.bytes).hex()).replace(
                    &format!("\"size\":{}", config.bytes.len()),
                    &format!("\"size\":{}", new.bytes.len()),
                )
            })
        }),
        // The index.
        ("two bundles", {
            let other = Layout::of(&Package::new(bundle("2.0.0"), Vec::new()).expect("a package"));
            let both = String::from_utf8(other.0[1].bytes.clone()).expect("text");
            let both = both.replacen('[', &format!("[{descriptor},"), 1);
            let mut layout = indexed(&both);
            let known: Vec<Vec<u8>> = layout.0.iter().map(|entry| entry.name.clone()).collect();
            layout.0.extend(other.0.into_iter().filter(|entry| !known.contains(&entry.name)));
            layout
        }),
        ("no bundle", indexed(&index.replace(descriptor, ""))),
        ("an index in the index", indexed(&index.replace(descriptor, &format!("{descriptor},{nested}")))),
        ("only an index in the index", indexed(&index.replace(descriptor, &nested))),
        (
            "a key twice",
            indexed(&index.replacen("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"schemaVersion\":2", 1)),
        ),
        (
            "a key of nobody",
            indexed(&index.replacen("{\"schemaVersion\":2", "{\"schemaVersion\":2,\"x\":1", 1)),
        ),
        ("brackets, 10,000 deep", indexed(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)))),
        ("objects, 10,000 deep", indexed(&"{\"manifests\":".repeat(4_000))),
        (
            "depth where anything is skipped",
            indexed(&index.replacen(
                "{\"schemaVersion\"",
                &format!("{{\"x\":{}{},\"schemaVersion\"", "[".repeat(10_000), "]".repeat(10_000)),
                1,
            )),
        ),
        ("more after the document", indexed(&format!("{index}{index}"))),
        ("a blob that nothing names", Layout::good().with(Entry::blob(b"stowaway"))),
    ];
    let mut text = String::new();
    for (what, layout) in cases {
        let begun = Instant::now();
        let error = layout.read().err().unwrap_or_else(|| panic!("accepted: {what}"));
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} took {:?}", begun.elapsed());
        text.push_str(&format!("{what}\n    {}\n", why(&error)));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_compressed_is_never_unpacked() {
    let tar = Layout::good().tar();
    // The first bytes tell, whatever follows: gzip, zstd, xz, bzip2.
    for magic in [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], b"\xfd7zXZ\0", b"BZh9"] {
        let bytes = [magic, &tar].concat();
        assert!(matches!(Package::read(&bytes[..]), Err(PackageError::Compressed)));
    }
    // 80 MiB and one byte of anything is too much to begin with.
    let endless = std::io::Read::chain(&tar[..], std::io::repeat(0));
    assert!(matches!(Package::read(endless), Err(PackageError::TooLarge)));
}

/// Checksums of headers and the end of a tar: what other readers forgive.
#[test]
fn a_tar_has_one_reading() {
    let good = Layout::good().tar();
    let mut wrong = good.clone();
    wrong[148] ^= 1;
    assert!(Package::read(&wrong[..]).is_err(), "a wrong checksum");
    // What stands after the end of an archive would be a second one to readers that go on.
    let two = [&good[..], &Layout::good().with(Entry::file("escape", *b"x")).tar()].concat();
    assert!(Package::read(&two[..]).is_err(), "an archive after the archive");
    let early = [&[0; 1024][..], &good].concat();
    assert!(Package::read(&early[..]).is_err(), "an archive after the end");
}

/// Signatures are checked when a package is read, so nothing carries one along that is not its own.
#[test]
fn signatures_of_others_do_not_come_along() {
    let (one, two) = (bundle("1.0.0"), bundle("2.0.0"));
    let signed = |bundle: &Bundle, signatures: Vec<Signature>| {
        Layout::of(&Package::new(bundle.clone(), signatures).expect("a package"))
    };
    let good = signature(&one, 1);
    signed(&one, vec![good.clone()]).read().expect("a signed package");
    // The older version's signature beside the newer bundle.
    assert!(Package::new(two.clone(), vec![good.clone()]).is_err());
    let old = signed(&one, vec![good.clone()]);
    let mut new = signed(&two, vec![signature(&two, 1)]);
    for at in [5, 6] {
        // Manifest and document of the signature.
        new.0[at] = old.0[at].clone();
    }
    let error = new.read().expect_err("refused").to_string();
    assert!(error.contains("the package has no `blobs/sha256/"), "{error}");
    // With an index that names it.
    let index = String::from_utf8(new.index().clone()).expect("text");
    let signature_of = |layout: &Layout| Digest::of(&layout.0[5].bytes).hex();
    let own = signature_of(&signed(&two, vec![signature(&two, 1)]));
    let named = index.split("sha256:").nth(2).expect("two").split('"').next().expect("a digest").to_owned();
    assert_eq!(own.len(), named.len());
    *new.index() = index.replace(&named, &signature_of(&old)).into_bytes();
    let error = new.read().expect_err("refused").to_string();
    assert!(error.contains("something else"), "{error}");
}

/// Taking signatures away is possible for anybody, and gives a package that nobody trusts.
#[test]
fn a_stripped_package_is_an_unsigned_one() {
    let bundle = bundle("1.0.0");
    let signed = Package::new(bundle.clone(), vec![signature(&bundle, 1)]).expect("a package");
    let stripped = Package::new(bundle, Vec::new()).expect("a package");
    let read = Package::read(&stripped.to_bytes()[..]).expect("read");
    assert_eq!(read.bundle.digest, signed.bundle.digest);
    let key = signed.signatures()[0].public_key;
    let trust = format!("[keys.k]\npublic = \"{key}\"\n[[rules]]\nplugins = \"*\"\nkeys = [\"k\"]\n");
    let trust = crate::trust::Trust::parse(&trust).expect("a trust file");
    let verify = |package: &Package| {
        let manifest = &package.bundle.manifest;
        trust.verify(&manifest.name, manifest.version, package.bundle.digest, package.signatures(), 2)
    };
    assert!(verify(&signed).is_ok());
    assert!(matches!(verify(&read), Err(crate::trust::Untrusted::Unsigned { .. })));
    // Half of it: the index names a signature whose blobs are gone.
    let mut half = Layout::of(&signed);
    half.0.remove(6);
    assert!(half.read().is_err());
}

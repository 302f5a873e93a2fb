use super::*;
use std::os::unix::fs::symlink;

const MANIFEST: &[u8] = b"name = \"m\"\nversion = \"0.1.0\"\n";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (part, bytes) in [(Part::Manifest, MANIFEST), (Part::Component, COMPONENT), (Part::Wit, COMPONENT)] {
        std::fs::write(dir.path().join(part.file_name()), bytes).expect("written");
    }
    dir
}

#[test]
fn a_directory_is_a_bundle() {
    let bundle = Bundle::read_dir(dir().path()).expect("a bundle");
    assert_eq!(bundle.manifest.name.as_str(), "m");
    let same = Bundle::from_parts(MANIFEST.into(), COMPONENT.into(), COMPONENT.into()).expect("a bundle");
    assert_eq!(bundle.digest, same.digest);
    // The format of the digest is fixed: it names bundles across versions of this program.
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.windlass.bundle.v1","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{config}","size":{size}}},"layers":[{{"mediaType":"application/wasm","digest":"{component}","size":8}},{{"mediaType":"application/vnd.windlass.manifest.v1+toml","digest":"{manifest}","size":29}},{{"mediaType":"application/vnd.windlass.wit.v1+wasm","digest":"{component}","size":8}}],"annotations":{{"org.opencontainers.image.title":"m","org.opencontainers.image.version":"0.1.0"}}}}"#,
        config = Digest::of(&bundle.image().config()),
        size = bundle.image().config().len(),
        component = Digest::of(COMPONENT),
        manifest = Digest::of(MANIFEST),
    );
    assert_eq!(String::from_utf8_lossy(bundle.image().manifest()), expected);
    assert_eq!(bundle.digest, Digest::of(expected.as_bytes()));
}

#[test]
fn what_is_not_a_bundle_is_refused() {
    let with = |change: &dyn Fn(&Path)| {
        let dir = dir();
        change(dir.path());
        Bundle::read_dir(dir.path()).expect_err("refused")
    };
    let missing = with(&|dir| std::fs::remove_file(dir.join("wit.wasm")).expect("removed"));
    assert!(matches!(&missing, BundleError::Io { path, .. } if path.ends_with("wit.wasm")), "{missing}");

    let link = with(&|dir| {
        std::fs::rename(dir.join("component.wasm"), dir.join("elsewhere")).expect("moved");
        symlink("elsewhere", dir.join("component.wasm")).expect("linked");
    });
    assert!(matches!(link, BundleError::NotAFile { .. }), "{link}");

    let directory = with(&|dir| {
        std::fs::remove_file(dir.join("component.wasm")).expect("removed");
        std::fs::create_dir(dir.join("component.wasm")).expect("made");
    });
    assert!(matches!(directory, BundleError::NotAFile { .. }), "{directory}");

    // Opening a pipe for reading would wait for a writer.
    let pipe = with(&|dir| {
        std::fs::remove_file(dir.join("component.wasm")).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, dir.join("component.wasm"), FileType::Fifo, Mode::RUSR, 0)
            .expect("made");
    });
    assert!(matches!(pipe, BundleError::NotAFile { .. }), "{pipe}");

    // A sparse file: large without taking the space.
    let large = with(&|dir| {
        let file = File::options().write(true).open(dir.join("wit.wasm")).expect("opened");
        file.set_len(Part::Wit.max_bytes() as u64 + 1).expect("grown");
    });
    assert!(matches!(large, BundleError::TooLarge { part: Part::Wit }), "{large}");

    let module =
        with(&|dir| std::fs::write(dir.join("component.wasm"), b"\0asm\x01\0\0\0").expect("written"));
    assert_eq!(module.to_string(), "component.wasm is not a WebAssembly component");
    let text = with(&|dir| std::fs::write(dir.join("plugin.toml"), [0xff]).expect("written"));
    assert_eq!(text.to_string(), "plugin.toml is not UTF-8 text");
    let manifest = with(&|dir| std::fs::write(dir.join("plugin.toml"), "name = 3").expect("written"));
    assert_eq!(manifest.to_string(), "plugin.toml:1:8: `name`: expected a string, found 3");
}

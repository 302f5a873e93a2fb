use super::*;
use proptest::prelude::*;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};
use tempfile::TempDir;

/// A root with some content, beside a secret.
struct Tree(TempDir);

impl Tree {
    fn new() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("root/sub")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(dir.path().join("root/file"), "content").unwrap();
        fs::write(dir.path().join("root/sub/deep"), "deep").unwrap();
        Tree(dir)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.path().join("root").join(relative)
    }

    fn at(&self, relative: &str) -> Place {
        Place::new(self.path(""), relative)
    }

    /// Follows links to paths that this accepts.
    fn following(&self, relative: &str, check: fn(&Path) -> bool) -> Place {
        self.at(relative).follow_links(Arc::new(check))
    }

    fn link(&self, target: &str, name: &str) {
        symlink(target, self.path(name)).unwrap();
    }

    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name.starts_with(".windlass")).collect()
    }
}

fn denied<T: fmt::Debug>(result: Result<T, FilesError>) -> String {
    match result {
        Err(FilesError::Denied(why)) => why,
        other => panic!("expected a denial, got {other:?}"),
    }
}

#[test]
fn a_file_is_read_within_its_limit() {
    let tree = Tree::new();
    assert_eq!(read(&tree.at("file"), 7).unwrap(), b"content");
    assert_eq!(read(&tree.at("sub/./deep"), 100).unwrap(), b"deep");
    assert_eq!(read(&tree.at("file"), 6), Err(FilesError::TooLarge(6)));
    assert_eq!(read(&tree.at("missing"), 9), Err(FilesError::NotFound));
    assert_eq!(read(&tree.at("sub"), 9), Err(FilesError::IsADirectory));
    assert_eq!(read(&tree.at("file/below"), 9), Err(FilesError::NotADirectory));
    assert_eq!(read(&tree.at(""), 9), Err(FilesError::IsADirectory));
}

#[test]
fn files_without_a_size_are_read_and_limited() {
    let boot_id = Place::new("/proc/sys/kernel/random", "boot_id");
    assert_eq!(read(&boot_id, 100).unwrap().len(), 37);
    assert_eq!(read(&boot_id, 36), Err(FilesError::TooLarge(36)));
    assert_eq!(read_range(&boot_id, 8, 1, 100).unwrap(), b"-");
}

#[test]
fn a_range_is_cut_at_the_end() {
    let tree = Tree::new();
    let range = |offset, length| read_range(&tree.at("file"), offset, length, 1 << 20).unwrap();
    assert_eq!(range(0, 3), b"con");
    assert_eq!(range(4, 100), b"ent");
    assert_eq!(range(100, 1), b"");
    assert_eq!(range(u64::MAX, 5), b"");
    assert_eq!(range(0, 0), b"");
    assert_eq!(read_range(&tree.at("file"), 0, 11, 10), Err(FilesError::TooLarge(10)));
    let large: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::write(tree.path("large"), &large).unwrap();
    assert!(read_range(&tree.at("large"), 5, 150_000, 1 << 20).unwrap() == large[5..150_005]);
}

#[test]
fn pipes_and_devices_are_not_touched() {
    let tree = Tree::new();
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.path("pipe"), mode).unwrap();
    assert!(matches!(read(&tree.at("pipe"), 9), Err(FilesError::Other(_))), "it does not block");
    assert!(matches!(write(&tree.at("pipe"), b"x", None), Err(FilesError::Other(_))));
    assert_eq!(stat(&tree.at("pipe")).unwrap().kind, Kind::Other);
    assert!(matches!(read(&Place::new("/dev", "zero"), 9), Err(FilesError::Other(_))));
}

#[test]
fn links_out_of_the_root_are_refused_wherever_they_stand() {
    let tree = Tree::new();
    let outside = tree.0.path().to_str().unwrap().to_owned();
    tree.link("../secret", "at_end");
    tree.link("..", "up");
    tree.link(&format!("{outside}/secret"), "absolute");
    tree.link(&outside, "absolute_up");
    tree.link("/proc/self/root", "magic");
    tree.link("at_end", "twice");
    // Out and in again is out.
    tree.link("../root/file", "around");
    let paths =
        ["at_end", "up/secret", "absolute", "absolute_up/secret", "magic/etc/hostname", "twice", "around"];
    for path in paths {
        for place in [tree.at(path), tree.following(path, |_| true)] {
            denied(read(&place, 99));
            denied(read_range(&place, 0, 9, 99));
            denied(list(&place, 99));
        }
    }
    for path in ["up/secret", "absolute_up/secret", "absolute_up/new", "up/new"] {
        for place in [tree.at(path), tree.following(path, |_| true)] {
            denied(write(&place, b"x", None));
            denied(remove(&place));
            denied(make_dir(&place, false));
            denied(make_dir(&place, true));
            denied(stat(&place));
        }
    }
    for path in ["at_end", "absolute", "around", "up"] {
        denied(write(&tree.at(path), b"x", None));
        denied(write(&tree.following(path, |_| true), b"x", None));
    }
    assert_eq!(fs::read(tree.0.path().join("secret")).unwrap(), b"secret");
    assert!(!tree.0.path().join("new").exists());
}

/// Even a grant of all of `/proc` is one of what the kernel tells there, not of where its links lead.
#[test]
fn links_of_proc_lead_nowhere() {
    let open = std::fs::File::open("/etc/passwd").unwrap();
    let open = format!("self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    for path in ["self/root/etc/passwd", "self/cwd/Cargo.toml", "self/exe", "1/root/etc/passwd", &open] {
        let place = Place::new("/proc", path);
        let following = Place::new("/proc", path).follow_links(Arc::new(|_: &Path| true));
        for place in [place, following] {
            // Denied here, or by the kernel where a link of /proc may not be read at all.
            read(&place, 1 << 20).unwrap_err();
            write(&place, b"x", None).unwrap_err();
        }
    }
}

#[test]
fn paths_with_dots_or_roots_are_refused() {
    let tree = Tree::new();
    for path in ["..", "../secret", "sub/../../secret", "sub/../file", "/etc/hostname"] {
        denied(read(&tree.at(path), 99));
        denied(write(&tree.at(path), b"x", None));
        denied(list(&tree.at(path), 99));
        denied(stat(&tree.at(path)));
        denied(remove(&tree.at(path)));
        denied(make_dir(&tree.at(path), true));
    }
    denied(read(&Place::new("relative", "file"), 99));
    denied(remove(&tree.at("")));
}

#[test]
fn links_within_the_root_are_followed_only_where_agreed() {
    let tree = Tree::new();
    tree.link("file", "link");
    tree.link("sub", "directory");
    assert!(denied(read(&tree.at("link"), 99)).contains("a link stands on the way"));
    denied(read(&tree.at("directory/deep"), 99));
    assert_eq!(read(&tree.following("link", |way| way == Path::new("file")), 99).unwrap(), b"content");
    assert_eq!(
        read(&tree.following("directory/deep", |way| way == Path::new("sub/deep")), 99).unwrap(),
        b"deep"
    );
    let why = denied(read(&tree.following("link", |way| way != Path::new("file")), 99));
    assert!(why.contains("`file`"), "{why}");
    // Without a link nobody is asked.
    assert_eq!(read(&tree.following("file", |_| false), 99).unwrap(), b"content");
    write(&tree.following("directory/new", |way| way == Path::new("sub/new")), b"x", None).unwrap();
    denied(write(&tree.following("directory/new", |_| false), b"y", None));
    assert_eq!(fs::read(tree.path("sub/new")).unwrap(), b"x");
    assert_eq!(list(&tree.following("directory", |_| true), 99).unwrap().len(), 2);
    denied(list(&tree.following("directory", |_| false), 99));
}

#[test]
fn a_link_itself_can_be_looked_at_and_removed() {
    let tree = Tree::new();
    tree.link("../secret", "link");
    for place in [tree.at("link"), tree.following("link", |_| false)] {
        assert_eq!(stat(&place).unwrap().kind, Kind::Symlink);
    }
    remove(&tree.at("link")).unwrap();
    assert!(fs::symlink_metadata(tree.path("link")).is_err());
    assert!(tree.0.path().join("secret").exists());
}

#[test]
fn writing_makes_and_replaces() {
    let tree = Tree::new();
    write(&tree.at("new"), b"one", None).unwrap();
    assert_eq!(fs::read(tree.path("new")).unwrap(), b"one");
    assert_eq!(fs::metadata(tree.path("new")).unwrap().mode() & 0o7777, 0o644);
    let before = fs::metadata(tree.path("new")).unwrap().ino();
    fs::set_permissions(tree.path("new"), fs::Permissions::from_mode(0o640)).unwrap();
    write(&tree.at("new"), b"two", None).unwrap();
    let after = fs::metadata(tree.path("new")).unwrap();
    assert_eq!(after.mode() & 0o7777, 0o640, "the mode is kept");
    assert_ne!(after.ino(), before, "it is another file with the name of the old");
    write(&tree.at("new"), b"three", Some(0o600)).unwrap();
    assert_eq!(fs::metadata(tree.path("new")).unwrap().mode() & 0o7777, 0o600);
    write(&tree.at("new"), b"three", Some(0o4755)).unwrap();
    assert_eq!(fs::metadata(tree.path("new")).unwrap().mode() & 0o7777, 0o755, "no set-user-id");
    assert_eq!(read(&tree.at("new"), 99).unwrap(), b"three");
    assert_eq!(write(&tree.at("sub"), b"", None), Err(FilesError::IsADirectory));
    assert_eq!(write(&tree.at("missing/new"), b"", None), Err(FilesError::NotFound));
    assert_eq!(write(&tree.at("file/new"), b"", None), Err(FilesError::NotADirectory));
    denied(write(&tree.at(""), b"", None));
    assert_eq!(tree.leftovers(), Vec::<String>::new());
}

#[test]
fn an_existing_file_keeps_its_owner() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can give files away
    }
    let tree = Tree::new();
    std::os::unix::fs::chown(tree.path("file"), Some(1234), Some(2345)).unwrap();
    write(&tree.at("file"), b"x", None).unwrap();
    let now = stat(&tree.at("file")).unwrap();
    assert_eq!((now.uid, now.gid), (1234, 2345));
}

#[test]
fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
    let tree = Tree::new();
    // The name is taken by a directory after the temporary file was made: the rename fails.
    let directory =
        rustix::fs::open(tree.path(""), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let temporary = Temporary::create(&directory).unwrap();
    assert_eq!(tree.leftovers().len(), 1);
    assert_eq!(temporary.take_name("sub".as_ref()), Err(FilesError::IsADirectory));
    assert_eq!(tree.leftovers(), Vec::<String>::new());
    assert_eq!(fs::read(tree.path("sub/deep")).unwrap(), b"deep");
}

#[test]
fn readers_see_the_old_or_the_new_content() {
    let tree = Tree::new();
    let place = tree.at("file");
    write(&place, &[0; 100_000], None).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for value in 1..=50 {
                write(&place, &[value; 100_000], None).unwrap();
            }
        });
        while !writer.is_finished() {
            let content = read(&place, 1 << 20).unwrap();
            assert_eq!(content.len(), 100_000);
            assert!(content.iter().all(|byte| *byte == content[0]));
        }
    });
}

#[test]
fn a_swapped_link_never_leads_out() {
    // The classic race: a directory becomes a link while its files are being opened.
    let tree = Tree::new();
    fs::write(tree.0.path().join("deep"), "secret").unwrap();
    symlink("..", tree.path("link")).unwrap();
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            for _ in 0..2000 {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, tree.path("sub"), cwd, tree.path("link"), flags).unwrap();
            }
        });
        while !swapper.is_finished() {
            for place in [tree.at("sub/deep"), tree.following("sub/deep", |_| true)] {
                match read(&place, 99) {
                    Ok(content) => assert_eq!(content, b"deep"),
                    Err(FilesError::Denied(_)) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    });
}

#[test]
fn a_directory_is_listed_by_name() {
    let tree = Tree::new();
    tree.link("nowhere", "a link");
    let entries = list(&tree.at(""), 999).unwrap();
    let entries: Vec<(&str, Kind)> = entries.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect();
    assert_eq!(entries, [("a link", Kind::Symlink), ("file", Kind::File), ("sub", Kind::Directory)]);
    assert_eq!(list(&tree.at(""), 12), Err(FilesError::TooLarge(12)));
    assert_eq!(list(&tree.at("file"), 99), Err(FilesError::NotADirectory));
    assert_eq!(list(&tree.at("missing"), 99), Err(FilesError::NotFound));
}

#[test]
fn facts_of_a_file_are_told() {
    let tree = Tree::new();
    let expected = fs::metadata(tree.path("file")).unwrap();
    let facts = stat(&tree.at("file")).unwrap();
    assert_eq!((facts.kind, facts.size_bytes, facts.uid), (Kind::File, 7, expected.uid()));
    assert_eq!(facts.modified_ms, expected.mtime() * 1000 + expected.mtime_nsec() / 1_000_000);
    assert_eq!(stat(&tree.at("sub")).unwrap().size_bytes, 0);
    assert_eq!(stat(&tree.at("")).unwrap().kind, Kind::Directory);
    assert_eq!(milliseconds(-1, 500_000_000), -500);
}

#[test]
fn removing_takes_files_and_empty_directories() {
    let tree = Tree::new();
    assert_eq!(remove(&tree.at("sub")), Err(FilesError::NotEmpty));
    remove(&tree.at("sub/deep")).unwrap();
    remove(&tree.at("sub")).unwrap();
    assert_eq!(remove(&tree.at("sub")), Err(FilesError::NotFound));
}

#[test]
fn directories_are_made() {
    let tree = Tree::new();
    assert_eq!(make_dir(&tree.at("a/b"), false), Err(FilesError::NotFound));
    make_dir(&tree.at("a/b/c"), true).unwrap();
    make_dir(&tree.at("a/b/c"), true).unwrap();
    assert_eq!(stat(&tree.at("a/b/c")).unwrap().mode, 0o755);
    assert_eq!(make_dir(&tree.at("a"), false), Err(FilesError::Exists));
    assert_eq!(make_dir(&tree.at("file"), true), Err(FilesError::Exists));
    assert_eq!(make_dir(&tree.at("file/below"), true), Err(FilesError::NotADirectory));
    make_dir(&tree.at(""), true).unwrap();
    assert_eq!(make_dir(&tree.at(""), false), Err(FilesError::Exists));
}

#[test]
fn a_missing_root_is_made_on_the_way() {
    let tree = Tree::new();
    let place = Place::new(tree.path("x/y"), "z");
    assert_eq!(make_dir(&place, false), Err(FilesError::NotFound));
    assert_eq!(make_dir(&Place::new(tree.path("x/y"), ""), false), Err(FilesError::NotFound));
    make_dir(&place, true).unwrap();
    assert!(tree.path("x/y/z").is_dir());
    make_dir(&Place::new(tree.path("w"), ""), false).unwrap();
    assert!(tree.path("w").is_dir());
}

#[test]
fn a_full_or_read_only_filesystem_is_told() {
    assert_eq!(FilesError::from(Errno::DQUOT), FilesError::NoSpace);
    assert_eq!(FilesError::from(Errno::ROFS), FilesError::ReadOnly);
    // A filesystem of one page can be mounted by root in a namespace of its own only, so the one
    // device that is always full has to do: it is asked the way a write asks.
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(FilesError::from(full.write_all(b"x").unwrap_err()), FilesError::NoSpace);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the path, and whatever links stand there, nothing outside is read or changed.
    #[test]
    fn no_path_leads_out(
        path in prop::collection::vec(prop_oneof![
            Just("..".to_owned()), Just(".".to_owned()), Just("sub".to_owned()), Just("up".to_owned()),
            Just("root".to_owned()), Just("secret".to_owned()), Just("here".to_owned()), Just(String::new()),
            "[a-z/.\\x00]{0,6}",
        ], 0..6),
        follow in any::<bool>(),
    ) {
        let tree = Tree::new();
        tree.link("..", "up");
        tree.link(".", "here");
        tree.link("../up", "sub/up");
        let path = path.join("/");
        let place = if follow { tree.following(&path, |_| true) } else { tree.at(&path) };
        if let Ok(content) = read(&place, 99) {
            prop_assert!(content == b"content" || content == b"deep");
        }
        let _ = write(&place, b"deep", None);
        let _ = make_dir(&place, true);
        let _ = remove(&place);
        let outside: Vec<_> = fs::read_dir(tree.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(outside.len(), 2);
        prop_assert_eq!(fs::read(tree.0.path().join("secret")).unwrap(), b"secret");
    }
}

//! Whatever a tool prints, there is an answer or an error.

mod support;

use proptest::prelude::*;
use support::all;
use windlass_plugin_zfs::parse::{
    Dialect, dataset_list, dataset_properties, held, is_dataset_name, is_filesystem_name, is_pool_name,
    is_run_id, number, owner, pool_list, pool_status,
};

fn parse_all(text: &str) {
    let _ = number(text);
    let _ = is_pool_name(text);
    let _ = is_dataset_name(text);
    let _ = pool_list(text, Dialect::OpenZfs);
    let _ = pool_list(text, Dialect::Fuse);
    let _ = dataset_list(text);
    let _ = dataset_properties(text);
    let _ = owner(text);
    let _ = held(text);
    let _ = is_filesystem_name(text);
    let _ = is_run_id(text);
    if let Ok(pools) = pool_status(text) {
        for pool in pools {
            assert_eq!(pool.healthy, pool.problems.is_empty());
            for (at, vdev) in pool.vdevs.iter().enumerate() {
                assert_eq!(vdev.id as usize, at);
                assert!(vdev.parent_id.is_none_or(|parent| parent < vdev.id));
                let above = vdev.parent_id.map_or(0, |parent| pool.vdevs[parent as usize].depth + 1);
                assert_eq!(vdev.depth, above);
            }
        }
    }
}

/// Captures with some of their bytes replaced, cut out or doubled.
fn damaged() -> impl Strategy<Value = String> {
    let texts: Vec<String> =
        all("z").into_iter().map(|(_, text)| text).filter(|text| !text.is_empty()).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..20);
    (prop::sample::select(texts), edits).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (at, byte, how) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b" \t\n-:0(\xe9"[byte as usize % 8]),
                _ => bytes.truncate(at),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_any_text(text in any::<String>()) {
        parse_all(&text);
    }

    #[test]
    fn on_lines_of_their_own_words(words in prop::collection::vec(prop::sample::select(vec![
        "  pool: ", " state: ", "config:", "errors: ", "  scan: ", "\tNAME  STATE     READ WRITE CKSUM\n", "\t", "  ",
        " ", "\n", "é", "mirror-0", "spares", "logs\t", "ONLINE", "0", "1.5K", "(", ")", "was ", "scrub", "resilver ",
        "in progress", "100% done", "/", "scanned", "days", "to go", "0h0m", "with", "errors", "data", "-", "repaired",
        "Permanent errors", "        ", "99999999999999999999E", ",",
    ]), 0..60)) {
        parse_all(&words.concat());
    }

    #[test]
    fn on_damaged_captures(text in damaged()) {
        parse_all(&text);
    }
}

//! `zpool list`, `zfs list` and `zfs get`.

mod support;

use std::collections::BTreeMap;
use support::{all, capture};
use windlass_plugin_zfs::{
    api::{
        dataset::{self, DatasetType},
        pool::State,
    },
    parse::{Dialect, FUSE_PROPERTIES, OPENZFS_PROPERTIES, dataset_list, dataset_properties, pool_list},
};

/// The captures have the columns of `pool.list` up to the guid, and others behind.
fn cut(text: &str) -> String {
    text.lines()
        .map(|line| line.split('\t').take(9).chain(["-"]).collect::<Vec<_>>().join("\t") + "\n")
        .collect()
}

#[test]
fn pools_of_openzfs_are_exact() {
    for (file, text) in all("zpool-list-H-p-o-") {
        let pools =
            pool_list(&cut(&text), Dialect::OpenZfs).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(pools.len(), 1, "{file}");
        assert!(!pools[0].approximate, "{file}");
        assert_eq!(
            pools[0].allocated_bytes.unwrap() + pools[0].free_bytes.unwrap(),
            pools[0].size_bytes.unwrap()
        );
    }
    let text = capture(
        "openzfs-2.3.2/zpool-list-H-p-o-name-size-allocated-free-capacity-dedupratio-fragmentation-heal-92ba0__degraded-offline.txt",
    );
    insta::assert_debug_snapshot!(pool_list(&cut(&text), Dialect::OpenZfs).unwrap());
}

#[test]
fn pools_of_zfs_fuse_are_approximate() {
    let pools = pool_list(&capture("zfs-fuse-0.7.0/zpool-list__two-pools.txt"), Dialect::Fuse).unwrap();
    assert_eq!(pools.len(), 2);
    assert!(
        pools.iter().all(|pool| pool.approximate && pool.fragmentation_percent.is_none() && pool.guid > 0)
    );
    assert_eq!(pools[1].size_bytes, Some(123 << 20));
    assert_eq!(pools[1].dedup_ratio, Some(1.0));
    let pools =
        pool_list(&capture("zfs-fuse-0.7.0/zpool-list__degraded-offline.txt"), Dialect::Fuse).unwrap();
    assert_eq!(pools.iter().map(|pool| &pool.state).collect::<Vec<_>>(), [&State::Online, &State::Degraded]);
}

#[test]
fn a_pool_that_is_not_open_has_no_sizes() {
    let pools = pool_list(&capture("zfs-fuse-0.7.0/zpool-list__unavailable.txt"), Dialect::Fuse).unwrap();
    assert_eq!(pools[0].state, State::Faulted);
    assert_eq!((pools[0].size_bytes, pools[0].capacity_percent, pools[0].dedup_ratio), (None, None, None));
    assert!(!pools[0].approximate);
}

#[test]
fn no_pools_is_an_empty_list() {
    for (file, text) in all("zpool-list").into_iter().filter(|(file, text)| {
        file.contains("nopools") && (text.is_empty() || text == "no pools available\n")
    }) {
        assert_eq!(pool_list(&text, Dialect::Fuse).unwrap(), [], "{file}");
        assert_eq!(pool_list(&text, Dialect::OpenZfs).unwrap(), [], "{file}");
    }
}

#[test]
fn a_pool_with_other_columns_is_an_error() {
    let line = "tank\t1\t2\t3\t4\t1.00\t5\tONLINE\t6\t-\n";
    assert!(pool_list(line, Dialect::OpenZfs).is_ok());
    assert!(pool_list(line, Dialect::Fuse).is_err());
    assert!(pool_list(&line.replace("\t2\t", "\tx\t"), Dialect::OpenZfs).is_err());
    assert!(pool_list(&line.replace("\t6\t", "\t18446744073709551616\t"), Dialect::OpenZfs).is_err());
    let max = pool_list(&line.replace("\t6\t", "\t18446744073709551615\t"), Dialect::OpenZfs).unwrap();
    assert_eq!(max[0].guid, u64::MAX);
}

/// Lay the properties of `zfs get -H -p all` out as the columns that `zfs list -H -p -o` prints.
fn listed(text: &str) -> String {
    let mut name = "";
    let mut properties = BTreeMap::new();
    for line in text.lines() {
        let mut columns = line.split('\t');
        name = columns.next().unwrap();
        properties.insert(columns.next().unwrap(), columns.next().unwrap());
    }
    let value = |property: &&str| {
        if *property == "name" { name } else { properties.get(property).copied().unwrap_or("-") }
    };
    let columns: Vec<&str> = OPENZFS_PROPERTIES.split(',').collect();
    columns.iter().map(value).collect::<Vec<_>>().join("\t") + "\n"
}

#[test]
fn datasets_of_openzfs() {
    let mut kinds = Vec::new();
    for (file, text) in all("zfs-get-H-p-all") {
        let datasets = dataset_list(&listed(&text)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(datasets.len(), 1, "{file}");
        assert!(
            datasets[0].referenced_bytes.is_some() && datasets[0].created_ms.unwrap() > 1_700_000_000_000,
            "{file}"
        );
        kinds.push(datasets[0].kind);
    }
    for kind in [DatasetType::Filesystem, DatasetType::Volume, DatasetType::Snapshot] {
        assert!(kinds.contains(&kind), "{kind:?}");
    }
    for name in ["big-quota", "big-vol1", "big-clone", "big-snap@first"] {
        let text = capture(&format!("openzfs-2.3.2/zfs-get-H-p-all-{name}__datasets.txt"));
        insta::assert_debug_snapshot!(
            format!("openzfs_{}", name.replace(['-', '@'], "_")),
            dataset_list(&listed(&text)).unwrap()
        );
    }
}

#[test]
fn datasets_of_zfs_fuse() {
    let datasets = dataset_properties(&capture("zfs-fuse-0.7.0/zfs-get__datasets.txt")).unwrap();
    let names: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "tank",
            "tank/clone",
            "tank/data",
            "tank/data@first",
            "tank/legacy",
            "tank/with space",
            "tank/with space@daily 2026"
        ]
    );
    insta::assert_debug_snapshot!(&datasets[1..=4]);
    assert_eq!(dataset_properties(&capture("zfs-fuse-0.7.0/zfs-get__nopools.txt")).unwrap(), []);
    let beneath = dataset_properties(&capture("zfs-fuse-0.7.0/zfs-get-r__with-space.txt")).unwrap();
    assert_eq!(beneath.len(), 2);
}

/// A line of `zfs list`, with this value for a property.
fn line(property: &str, value: &str) -> Result<Vec<dataset::Summary>, impl std::fmt::Debug> {
    let of = |name: &str| match name {
        _ if name == property => value.to_owned(),
        "name" => "tank/a".to_owned(),
        "type" => "filesystem".to_owned(),
        _ => "-".to_owned(),
    };
    dataset_list(&(OPENZFS_PROPERTIES.split(',').map(of).collect::<Vec<_>>().join("\t") + "\n"))
}

#[test]
fn values_of_datasets() {
    assert_eq!(line("quota", "0").unwrap()[0].quota_bytes, None);
    assert_eq!(line("quota", "none").unwrap()[0].quota_bytes, None);
    assert_eq!(line("quota", "18446744073709551615").unwrap()[0].quota_bytes, Some(u64::MAX));
    assert_eq!(line("used", "0").unwrap()[0].used_bytes, Some(0));
    assert_eq!(line("type", "bookmark").unwrap()[0].kind, DatasetType::Bookmark);
    // Rounded where exact was asked for, unknown words, numbers that do not fit.
    for (property, value) in [
        ("used", "1.5K"),
        ("used", "x"),
        ("type", "volumes"),
        ("mounted", "maybe"),
        ("creation", "Sun Nov 22 20:44 2026"),
        ("creation", "9223372036854775807"),
        ("quota", "18446744073709551616"),
        ("compressratio", "inf"),
    ] {
        assert!(line(property, value).is_err(), "{property}={value}");
    }
    assert!(dataset_list("tank\tfilesystem\n").is_err());
    assert!(dataset_properties("tank\ttype\n").is_err());
    assert!(dataset_properties("tank\tused\t1\n").is_err(), "a dataset without a type");
    assert_eq!(dataset_list("no datasets available\n").unwrap(), []);
}

#[test]
fn both_dialects_ask_for_the_same() {
    assert_eq!(OPENZFS_PROPERTIES, format!("name,{FUSE_PROPERTIES}"));
}

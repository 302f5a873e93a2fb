use super::*;

const PIN: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/windlass/host.toml"))
}
fn with_pin(text: &str) -> Result<Config, ConfigError> {
    parse(&format!("name = \"n1\"\nca_fingerprint = \"{PIN}\"\n{text}"))
}
fn message(text: &str) -> String {
    with_pin(text).unwrap_err().to_string()
}

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = with_pin("").unwrap();
    assert_eq!(config.name.as_str(), "n1");
    assert_eq!(
        config.masters,
        [Master { nodes: "windlass-master:7401".into(), enroll: "windlass-master:7402".into() }]
    );
    assert_eq!((config.workers, config.queue, config.drain.as_secs()), (4, 16, 30));
    assert_eq!(config.state_dir, Path::new("/var/lib/windlass-host"));
    assert!(config.plugins_dir.is_none());
    assert!(config.compile_helper.ends_with("windlass-compile"));
    assert_eq!(config.bundles, BundleSettings::default());
    assert_eq!(config.bundles.trust_file, Path::new("/etc/windlass/trust.toml"));
}

#[test]
fn bundles_have_limits() {
    let bundles =
        with_pin("trust_file = \"t.toml\"\nallow_unsigned = true\n[bundles]\nfailure_budget = 5\nprobation = \"90s\"\nkeep_free = \"1GiB\"")
            .unwrap()
            .bundles;
    let expected = BundleSettings {
        trust_file: "/etc/windlass/t.toml".into(),
        allow_unsigned: true,
        failure_budget: 5,
        probation: Duration::from_secs(90),
        keep_free: 1 << 30,
    };
    assert_eq!(bundles, expected);
    assert!(message("[bundles]\nfailure_budget = 0").contains("key `bundles.failure_budget`"));
    assert!(message("[bundles]\nprobation = \"10\"").contains("`10` is not a duration"));
    assert!(message("[bundles]\nprobation = \"721h\"").contains("more than 30 days"));
    assert!(message("[bundles]\nkeep_free = \"1GB\"").contains("key `bundles.keep_free`"));
    assert!(message("[bundles]\nbudget = 1").contains("unknown field `budget`"));
}

#[test]
fn masters_have_two_spellings() {
    let config = with_pin(
        "[[masters]]\nhost = \"m1.example\"\n[[masters]]\nhost = \"fd00::1\"\nnode_port = 1\nenroll_port = 2\n\
         [[masters]]\nnodes = \"127.0.0.1:10\"\nenroll = \"127.0.0.1:11\"",
    )
    .unwrap();
    let all: Vec<(&str, &str)> =
        config.masters.iter().map(|master| (master.nodes.as_str(), master.enroll.as_str())).collect();
    assert_eq!(
        all,
        [
            ("m1.example:7401", "m1.example:7402"),
            ("[fd00::1]:1", "[fd00::1]:2"),
            ("127.0.0.1:10", "127.0.0.1:11")
        ]
    );
    assert!(message("[[masters]]\nhost = \"m1:7401\"").contains("key `masters[0].host`"));
    assert!(message("[[masters]]\nnodes = \"m1:7401\"").contains("both `nodes` and `enroll`"));
    assert!(message("[[masters]]\nnodes = \"m1\"\nenroll = \"m1:2\"").contains("key `masters[0].nodes`"));
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    assert_eq!(
        message("worker = 3"),
        "`/etc/windlass/host.toml` line 3: unknown field `worker`, expected one of `name`, `masters`, \
         `ca_fingerprint`, `ca_file`, `state_dir`, `plugins_dir`, `compile_helper`, `compiled_dir`, \
         `trust_file`, `allow_unsigned`, `bundles`, `watches`, `workers`, `queue`, `drain_seconds`, `join_token`, \
         `join_token_file`, `log`, `plugins`; did you mean `workers`?"
    );
    assert!(message("[[masters]]\nhots = \"x\"").contains("line 4"));
    assert!(message("[plugins.zfs]\nconfiguraton = {}").contains("did you mean `configuration`?"));
    assert!(message("[plugins.zfs.policy]\nno_such_key = 1").contains("line 4"));
    assert!(message("[log]\nlevle = \"info\"").contains("did you mean `level`?"));
    assert!(message("workers = \"3\"").contains("line 3"));
    assert!(message("workers = ").contains("line 3"));
}

#[test]
fn trust_is_never_on_first_use() {
    assert!(parse("name = \"n1\"").unwrap_err().to_string().contains("never trusts on first use"));
    assert!(message("ca_file = \"ca.pem\"").contains("not both"));
    assert!(
        parse("name = \"n1\"\nca_fingerprint = \"abc\"").unwrap_err().to_string().contains("ca_fingerprint")
    );
    let config = parse("name = \"n1\"\nca_file = \"ca.pem\"").unwrap();
    assert_eq!(config.authority, Authority::File("/etc/windlass/ca.pem".into()));
}

#[test]
fn values_out_of_range_name_the_key() {
    for (text, key) in [
        ("workers = 0", "workers"),
        ("queue = 100000", "queue"),
        ("drain_seconds = 100000", "drain_seconds"),
        ("[log]\nlevel = \"info,x=loud\"", "log.level"),
        ("[plugins.Zfs]", "plugins.Zfs"),
        ("join_token = \"a\"\njoin_token_file = \"b\"", "join_token_file"),
        ("[plugins.zfs.configuration.a]\nb = 2024-01-01", "plugins.zfs.configuration.a.b"),
    ] {
        let message = message(text);
        assert!(message.contains(&format!("key `{key}`")), "{message}");
    }
    let bad = parse(&format!("ca_fingerprint = \"{PIN}\"\nname = \"N 1\"")).unwrap_err().to_string();
    assert!(bad.contains("key `name`"), "{bad}");
}

#[test]
fn plugin_configuration_keeps_every_digit() {
    let config =
        with_pin("[plugins.zfs.configuration]\nlarge = 9007199254740993\nlist = [1, \"a\"]").unwrap();
    let settings = config.plugin(&"zfs".parse().unwrap());
    assert_eq!(settings.configuration["large"].to_string(), "9007199254740993");
    assert_eq!(settings.configuration["list"], serde_json::json!([1, "a"]));
    assert!(config.plugin(&"fio".parse().unwrap()).configuration.is_empty());
}

#[test]
fn a_join_token_is_never_printed() {
    let config = with_pin("join_token = \"hunter2\"").unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(config.join_token.unwrap().read().unwrap(), "hunter2");
}

#[test]
fn the_example_is_good_as_it_is_and_with_every_key_in_use() {
    let example = include_str!("../../deploy/host.toml");
    parse(example).unwrap();
    // Keys and tables that are commented out; prose has neither ` = ` nor a bracket at its begin.
    let all: String = example
        .lines()
        .filter(|line| !line.contains("ca_file ="))
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config = parse(&all).unwrap();
    assert_eq!(config.masters.len(), 2);
    assert_eq!(config.plugins.len(), 1);
    assert!(config.join_token.is_some());
    // The commented values are the defaults.
    let least = parse(example).unwrap();
    assert_eq!((config.workers, config.queue, config.drain), (least.workers, least.queue, least.drain));
    assert_eq!((config.state_dir, config.log.level), (least.state_dir, least.log.level));
    assert_eq!(config.bundles, least.bundles);
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn what_is_kept_of_watches_has_bounds() {
    let settings = |table: &str| parse(&format!("name = \"n1\"\nca_file = \"ca.pem\"\n[watches]\n{table}"));
    let config = settings("max_changes = 5\nmax_bytes = \"1MiB\"\nmax_result = \"256KiB\"").unwrap();
    let watches = config.watches;
    assert_eq!((watches.changes, watches.bytes, watches.result), (5, 1 << 20, 256 << 10));
    for (bad, key) in [
        ("max_changes = 0", "watches.max_changes"),
        ("max_bytes = \"1KiB\"", "watches.max_bytes"),
        ("max_result = \"1MiB\"", "watches.max_result"),
        ("max_result = \"lots\"", "watches.max_result"),
    ] {
        assert!(settings(bad).unwrap_err().to_string().contains(key), "{bad}");
    }
}

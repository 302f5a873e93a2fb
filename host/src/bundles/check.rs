//! What `windlass-host check` says about bundles. It only reads.

use super::{
    ledger::Ledger,
    verify::{self, TrustFileError},
};
use crate::{check::Finding, config::Config, explain::chain, journal::now_ms};
use std::collections::BTreeSet;
use windlass_types::PluginName;

fn ledger(config: &Config) -> Result<Ledger, super::LedgerError> {
    Ledger::load(&config.state_dir.join("bundles/ledger.json"))
}

/// Plugins that a master installed here.
pub fn names(config: &Config) -> BTreeSet<PluginName> {
    let installed = ledger(config).unwrap_or_default().plugins;
    installed.into_iter().filter(|(_, record)| record.current.is_some()).map(|(name, _)| name).collect()
}

/// Look at the trust file and at each installed bundle.
pub fn check(config: &Config) -> Vec<Finding> {
    let settings = &config.bundles;
    let path = settings.trust_file.display();
    let what = "trust_file";
    let mut findings = Vec::new();
    match verify::trust(settings) {
        Ok(trust) => {
            let warnings = trust.warnings(now_ms());
            findings.push(match warnings.is_empty() {
                true => Finding::good(what, format!("`{path}`")),
                false => Finding::bad(
                    what,
                    format!("`{path}`: {}", warnings.join("; ")),
                    "docs/host-configuration.md says what a trust file holds",
                ),
            });
        }
        // A node that has its own plugins, or none yet, may do without.
        Err(error @ TrustFileError::Missing(_)) => findings.push(Finding::good(what, chain(&error))),
        Err(error) => findings.push(Finding::bad(
            what,
            chain(&error),
            "until it is mended, no bundle is installed, and none that is installed is loaded",
        )),
    }
    if settings.allow_unsigned {
        findings.push(Finding::good(
            "allow_unsigned",
            "bundles need no signature on this node: whoever owns the master decides what runs here",
        ));
    }
    let ledger = match ledger(config) {
        Ok(ledger) => ledger,
        Err(error) => {
            findings.push(Finding::bad("bundles", chain(&error), "run this as the user of the host"));
            return findings;
        }
    };
    for (name, record) in &ledger.plugins {
        let what = format!("bundle {name}");
        if let Some(slot) = &record.current {
            let judged = verify::signatures(
                settings,
                name,
                slot.version,
                slot.digest,
                &slot.signatures,
                slot.verified_ms,
            );
            let named = format!("{}, {}", slot.version, slot.digest);
            findings.push(match judged {
                Ok(who) => {
                    let mut detail = format!("{named}, {who}");
                    if let Some(probation) = record.probation.as_ref().filter(|p| p.holds(now_ms())) {
                        detail.push_str(&format!(
                            ", new for another {} s with {} of {} failures",
                            probation.left(now_ms()).as_secs(),
                            probation.failures,
                            settings.failure_budget
                        ));
                    }
                    if let Some(previous) = &record.previous {
                        detail.push_str(&format!(", {} before it", previous.version));
                    }
                    Finding::good(what.clone(), detail)
                }
                Err(problem) => Finding::bad(
                    what.clone(),
                    format!("{named}: it is not trusted on this node: {problem}"),
                    "it is not loaded until the trust file lets it, or another version is installed",
                ),
            });
        }
        let failed = record.failed.iter().map(|failed| (failed, "could not be installed"));
        let newest = failed.chain(record.rolled_back.back().map(|back| (back, "was rolled back")));
        for (rejected, verb) in newest {
            findings.push(Finding::bad(
                what.clone(),
                format!("{} {verb}: {}", rejected.version, rejected.problem),
                "a new deployment tries it again",
            ));
        }
    }
    findings
}

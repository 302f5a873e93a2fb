//! The message that carries a result, made to fit.

use super::Finished;
use windlass_proto::{MAX_MESSAGE_BYTES, v1};
use windlass_types::{
    Outcome, RequestId, TrapReason,
    trace::{TraceDetail, TraceEntry, Verdict},
};

/// What outcome and trace may take together. The rest of the message is ids, a digest and framing.
pub const ROOM: usize = MAX_MESSAGE_BYTES - (64 << 10);
/// What a trace may take. It is kept for every job, and nobody reads megabytes of it.
pub const TRACE_ROOM: usize = 1 << 20;

/// Encode a result. An outcome that does not fit becomes `trapped` with the reason `output`; a trace
/// that does not fit loses its end and says how much.
pub fn result_message(id: RequestId, finished: &Finished) -> v1::Result {
    let mut outcome_json = to_json(&finished.outcome);
    if outcome_json.len() > ROOM {
        outcome_json = to_json(&Outcome::Trapped {
            reason: TrapReason::Output,
            message: format!(
                "the result has {} bytes of JSON, and {ROOM} can be sent; ask for less at once",
                outcome_json.len()
            ),
        });
    }
    let trace_json = trace_within(&finished.trace, TRACE_ROOM.min(ROOM.saturating_sub(outcome_json.len())));
    v1::Result {
        request_id: id.to_string(),
        outcome_json: outcome_json.into(),
        trace_json: trace_json.into(),
        stats_json: to_json(&finished.stats).into(),
        plugin_digest: finished.plugin_digest.map(|digest| digest.to_string()).unwrap_or_default(),
        output_bytes: finished.output_bytes,
    }
}

/// The result of a request that did not run.
pub fn unstarted(id: RequestId, outcome: Outcome) -> v1::Result {
    result_message(id, &outcome.into())
}

fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    // Our own types with string keys: serialising them can't fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// The longest beginning of a trace that fits, as a JSON array, closed by an entry that counts the rest.
fn trace_within(trace: &[TraceEntry], room: usize) -> Vec<u8> {
    /// Space kept for the closing entry.
    const CLOSING: usize = 512;
    let whole = to_json(&trace);
    if whole.len() <= room {
        return whole;
    }
    let mut json = vec![b'['];
    let mut kept = 0;
    for entry in trace {
        let entry = to_json(entry);
        if json.len() + entry.len() + CLOSING > room {
            break;
        }
        json.extend_from_slice(&entry);
        json.push(b',');
        kept += 1;
    }
    let dropped: u64 = trace[kept..]
        .iter()
        .map(|entry| match entry.detail {
            // The runtime had cut it already.
            TraceDetail::Dropped { entries } => entries,
            _ => 1,
        })
        .sum();
    let closing = TraceEntry {
        seq: u32::try_from(kept).unwrap_or(u32::MAX),
        at_us: trace.get(kept).map_or(0, |entry| entry.at_us),
        duration_us: 0,
        function: "trace".into(),
        detail: TraceDetail::Dropped { entries: dropped },
        verdict: Verdict::Allowed { rule: "trace".into() },
        error: None,
    };
    json.extend_from_slice(&to_json(&closing));
    json.push(b']');
    if json.len() <= room { json } else { b"[]".to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use serde_json::{Value, json};
    use windlass_types::trace::CallStats;

    fn entry(seq: u32, length: usize) -> TraceEntry {
        TraceEntry {
            seq,
            at_us: 0,
            duration_us: 0,
            function: "log".into(),
            detail: TraceDetail::Log { level: "info".into(), message: "x".repeat(length) },
            verdict: Verdict::Allowed { rule: "log".into() },
            error: None,
        }
    }
    fn finished(value: Value, trace: Vec<TraceEntry>) -> Finished {
        Finished {
            outcome: Outcome::Succeeded { value },
            trace,
            stats: CallStats::default(),
            plugin_digest: None,
            output_bytes: 0,
        }
    }

    #[test]
    fn what_fits_is_sent_as_it_is() {
        let done = finished(json!({"n": u64::MAX}), vec![entry(0, 5)]);
        let message = result_message(RequestId::new(), &done);
        assert_eq!(serde_json::from_slice::<Outcome>(&message.outcome_json).unwrap(), done.outcome);
        assert_eq!(serde_json::from_slice::<Vec<TraceEntry>>(&message.trace_json).unwrap(), done.trace);
    }

    #[test]
    fn a_result_that_can_not_be_sent_is_a_trap() {
        let message = result_message(RequestId::new(), &finished(json!("x".repeat(ROOM)), Vec::new()));
        let outcome: Outcome = serde_json::from_slice(&message.outcome_json).unwrap();
        assert!(matches!(outcome, Outcome::Trapped { reason: TrapReason::Output, .. }), "{outcome:?}");
        assert!(message.encoded_len() < MAX_MESSAGE_BYTES);
    }

    #[test]
    fn the_largest_result_with_the_largest_trace_still_fits() {
        let value = json!("x".repeat(ROOM - 100));
        let trace = (0..3000).map(|seq| entry(seq, 1000)).collect();
        let message = result_message(RequestId::new(), &finished(value, trace));
        assert!(message.encoded_len() < MAX_MESSAGE_BYTES);
        assert!(matches!(serde_json::from_slice(&message.outcome_json).unwrap(), Outcome::Succeeded { .. }));
        serde_json::from_slice::<Vec<TraceEntry>>(&message.trace_json).unwrap();
    }

    #[test]
    fn a_cut_trace_counts_what_is_missing() {
        let mut trace: Vec<TraceEntry> = (0..3000).map(|seq| entry(seq, 1000)).collect();
        trace.push(TraceEntry { detail: TraceDetail::Dropped { entries: 7 }, ..entry(3000, 0) });
        let message = result_message(RequestId::new(), &finished(Value::Null, trace));
        let sent: Vec<TraceEntry> = serde_json::from_slice(&message.trace_json).unwrap();
        assert!(message.trace_json.len() <= TRACE_ROOM);
        let TraceDetail::Dropped { entries } = sent.last().unwrap().detail else {
            panic!("no closing entry")
        };
        assert_eq!(sent.len() as u64 - 1 + entries, 3007);
    }
}

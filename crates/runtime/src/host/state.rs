//! `windlass:host/state`.

use super::{Serving, State, api::windlass::host::state as wit, blocking};
use crate::{
    state::{self, StateError, Store},
    tape::{
        calls::{HostCall, StateGet, StateKeys, StateRemove, StateSet},
        text::Bytes,
    },
};
use std::sync::Arc;
use windlass_types::{Denial, Effect, trace::TraceDetail};

fn wit_error(error: StateError) -> wit::Error {
    match error {
        StateError::Limit(why) => wit::Error::Limit(why),
        StateError::Other(why) => wit::Error::Other(why),
    }
}

impl Serving {
    /// Ask the grants, note the call, and do the work where it may block.
    ///
    /// In a dry run a change is only noted, and gives `noted`.
    async fn on_state<C: HostCall<Returns: 'static, Fails = StateError>>(
        &self,
        key: &str,
        effect: Effect,
        call: impl Fn() -> C,
        bytes: impl Fn(&C::Returns) -> u64,
        noted: Option<C::Returns>,
        work: impl FnOnce(&Store) -> Result<C::Returns, StateError> + Send + 'static,
    ) -> wasmtime::Result<Result<C::Returns, wit::Error>> {
        let (serving, function) = (self, C::NAME);
        let trace = &serving.trace;
        let detail = TraceDetail::State { key: key.to_owned(), bytes: 0 };
        let rule = match serving.grants.state() {
            Ok(rule) => rule,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                trace.denied(function, detail, &denial);
                serving.tape.denied(call, &denial.missing)?;
                return Ok(Err(wit::Error::Denied(denial.missing)));
            }
        };
        let (verdict, real) = serving.verdict(rule, effect);
        let entry = trace.begin(function, detail, verdict);
        let call = serving.tape.call(call);
        let done = match noted {
            Some(noted) if !real => {
                let done = Ok(noted);
                serving.tape.would(call.as_ref(), &done)?;
                done
            }
            _ => {
                let store = serving.store.clone();
                serving.tape.pass(call, blocking(move || work(&store))).await?
            }
        };
        let bytes = done.as_ref().map_or(0, bytes);
        let error = done.as_ref().err().map(ToString::to_string);
        trace.finish(entry, error, |detail| {
            if let TraceDetail::State { bytes: noted, .. } = detail {
                *noted = bytes;
            }
        });
        Ok(done.map_err(wit_error))
    }
}

impl wit::Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, wit::Error>> {
        let bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| value.0.len() as u64);
        let (call, wanted) = (|| StateGet { key: key.clone() }, key.clone());
        let work = move |store: &Store| Ok(store.get(&wanted)?.map(Bytes));
        let value = self.serving.on_state(&key, Effect::Read, call, bytes, None, work).await?;
        Ok(value.map(|value| value.map(|value| value.0)))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.check_size("a value", value.len())?;
        let value = Arc::new(value);
        let call = || StateSet { key: key.clone(), value: Bytes(value.to_vec()) };
        // What could never be set is not set in a dry run either.
        let noted = state::check_set(&key, &value).is_ok().then_some(());
        let (wanted, written) = (key.clone(), value.clone());
        let work = move |store: &Store| store.set(&wanted, &written);
        let bytes = |(): &()| value.len() as u64;
        self.serving.on_state(&key, Effect::Change, call, bytes, noted, work).await
    }

    async fn remove(&mut self, key: String) -> wasmtime::Result<Result<(), wit::Error>> {
        let (call, wanted) = (|| StateRemove { key: key.clone() }, key.clone());
        let work = move |store: &Store| store.remove(&wanted);
        self.serving.on_state(&key, Effect::Change, call, |()| 0, Some(()), work).await
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Result<Vec<String>, wit::Error>> {
        let (call, wanted) = (|| StateKeys { prefix: prefix.clone() }, prefix.clone());
        let work = move |store: &Store| store.keys(&wanted);
        self.serving.on_state(&prefix, Effect::Read, call, |_| 0, None, work).await
    }
}

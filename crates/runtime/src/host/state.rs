//! `windlass:host/state`.

use super::{Serving, State, api::windlass::host::state as wit, blocking};
use crate::state::{self, StateError, Store};
use windlass_types::{Denial, Effect, trace::TraceDetail};

fn wit_error(error: StateError) -> wit::Error {
    match error {
        StateError::Limit(why) => wit::Error::Limit(why),
        StateError::Other(why) => wit::Error::Other(why),
    }
}

impl Serving {
    /// Ask the grants, note the call, and do the work where it may block.
    async fn on_state<T: Send + 'static>(
        &self,
        function: &'static str,
        key: &str,
        effect: Effect,
        bytes: impl Fn(&T) -> u64,
        noted: Option<T>,
        work: impl FnOnce(&Store) -> Result<T, StateError> + Send + 'static,
    ) -> wasmtime::Result<Result<T, wit::Error>> {
        let serving = self;
        let trace = &serving.trace;
        let detail = TraceDetail::State { key: key.to_owned(), bytes: 0 };
        let rule = match serving.grants.state() {
            Ok(rule) => rule,
            Err(denial) => {
                let denial = Denial { capability: function.into(), ..denial };
                trace.denied(function, detail, &denial);
                return Ok(Err(wit::Error::Denied(denial.missing)));
            }
        };
        let (verdict, real) = serving.verdict(rule, effect);
        let entry = trace.begin(function, detail, verdict);
        let done = match noted {
            Some(noted) if !real => Ok(noted),
            _ => {
                let store = serving.store.clone();
                blocking(move || work(&store)).await?
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
        let bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| value.len() as u64);
        let wanted = key.clone();
        self.serving
            .on_state("state.get", &key, Effect::Read, bytes, None, move |store| store.get(&wanted))
            .await
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), wit::Error>> {
        self.serving.check_size("a value", value.len())?;
        let (wanted, bytes) = (key.clone(), value.len() as u64);
        // What could never be set is not set in a dry run either.
        let noted = state::check_set(&key, &value).is_ok().then_some(());
        self.serving
            .on_state(
                "state.set",
                &key,
                Effect::Change,
                |()| bytes,
                noted,
                move |store| store.set(&wanted, &value),
            )
            .await
    }

    async fn remove(&mut self, key: String) -> wasmtime::Result<Result<(), wit::Error>> {
        let wanted = key.clone();
        self.serving
            .on_state(
                "state.remove",
                &key,
                Effect::Change,
                |()| 0,
                Some(()),
                move |store| store.remove(&wanted),
            )
            .await
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Result<Vec<String>, wit::Error>> {
        let wanted = prefix.clone();
        self.serving
            .on_state("state.keys", &prefix, Effect::Read, |_| 0, None, move |store| store.keys(&wanted))
            .await
    }
}

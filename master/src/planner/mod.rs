//! Makes plans: runs planned operations, on the master and with nothing granted.
//!
//! What an operation is given is data (the fleet, and what it was asked for), and what it gives is data: a
//! plan that is checked as one that somebody wrote would be. So a planned operation can do no more than who
//! asks for it, and a bundle needs no approval for it.
//!
//! Only bundles of the store are run: what a node has in a folder of its own is not here, and a node that
//! could say what to run could speak for the whole grid. Compiling is left to the sandboxed helper, as on
//! nodes.

mod fleet;
mod read;
#[cfg(test)]
mod tests;

use crate::{bundles::Bundles, config::Config, fleet::Fleet, status::Statuses, store::StoreError};
use serde_json::Value;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;
use windlass_bundle::{Bundle, NodePolicy};
use windlass_runtime::{
    Call, LoadError, Plugin, Runtime, RuntimeOptions, Secrets, Tape,
    aot::{CompileError, Compiler},
};
use windlass_types::{
    Digest, OperationName, Outcome, PlanId,
    api::OperationInfo,
    json::{self, JsonError},
    plans::Plan,
    shape::FLEET,
};

/// Plans that are made at once.
const AT_ONCE: usize = 4;
/// Threads for plugins.
const THREADS: usize = 2;
/// Plugins that stay loaded.
const LOADED: usize = 16;
/// A plan is made within this time, however long its operation may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlannerError {
    /// It runs on nodes.
    #[error("operation `{0}` makes no plan")]
    NotPlanned(OperationName),
    #[error("the arguments of `{operation}`: {error}")]
    BadArguments { operation: OperationName, error: JsonError },
    /// Only nodes have its bundle.
    #[error("bundle {digest} of `{operation}` is not in the store of the master")]
    NotStored { operation: OperationName, digest: Digest },
    /// A part of the bundle is lost.
    #[error("the bundle of `{0}` can't be read")]
    Unreadable(OperationName, #[source] crate::bundles::BundlesError),
    /// It can't be run here.
    #[error("`{operation}` can't be run: {problem}")]
    Unusable { operation: OperationName, problem: String },
    /// It says why itself.
    #[error("`{operation}` made no plan")]
    NoPlan { operation: OperationName, outcome: Box<Outcome> },
    /// What it gave is none.
    #[error("`{operation}` made a plan that can't be right: {problem}")]
    BadPlan { operation: OperationName, pointer: String, problem: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// See the module. Clones share it.
#[derive(Debug, Clone)]
pub struct Planner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bundles: Bundles,
    fleet: Fleet,
    status: Statuses,
    compiler: Compiler,
    state_dir: PathBuf,
    /// Made when the first plan is.
    runtime: OnceCell<Arc<Runtime>>,
    loaded: Mutex<HashMap<Digest, Arc<Plugin>>>,
    turns: Semaphore,
}

impl Planner {
    /// One that starts nothing yet.
    pub fn new(config: &Config, bundles: Bundles, fleet: Fleet, status: Statuses) -> Self {
        let dir = config.data_dir.join("planner");
        Planner(Arc::new(Inner {
            bundles,
            fleet,
            status,
            compiler: Compiler::new(config.compile_helper(), dir.join("compiled")),
            state_dir: dir.join("state"),
            runtime: OnceCell::new(),
            loaded: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }))
    }

    /// The plan that an operation makes of the fleet as it is now. Its run will have this id.
    ///
    /// # Errors
    /// If the arguments don't fit, the operation can't be run or makes no plan.
    pub async fn make(
        &self,
        operation: &OperationInfo,
        args: &Value,
        run: PlanId,
    ) -> Result<Plan, PlannerError> {
        let name = &operation.name;
        if !operation.operation.planned {
            return Err(PlannerError::NotPlanned(name.clone()));
        }
        json::check(&operation.operation.signature.params_shape(), args)
            .map_err(|error| PlannerError::BadArguments { operation: name.clone(), error })?;
        let _turn = self.0.turns.acquire().await;
        let plugin = self.plugin(name, operation.plugin_digest).await?;
        let mut args = args.clone();
        if let Value::Object(args) = &mut args
            && plugin.operation(name.local()).is_some_and(|operation| operation.takes_fleet)
        {
            args.insert(FLEET.to_owned(), fleet::value(&self.0.fleet, &self.0.status, run).await?);
        }
        let call = Call {
            job_id: run.to_string(),
            operation: name.clone(),
            args,
            type_digest: Some(operation.type_digest),
            time_limit: LONGEST,
            dry_run: true,
            cancel: CancellationToken::new(),
            progress: None,
            output: None,
            tape: Tape::Off,
            secrets: Secrets::default(),
        };
        match self.runtime(name).await?.plan(&plugin, call).await.outcome {
            Outcome::Succeeded { value } => {
                read::plan(value).map_err(|read::Problem { pointer, problem }| PlannerError::BadPlan {
                    operation: name.clone(),
                    pointer,
                    problem,
                })
            }
            outcome => Err(PlannerError::NoPlan { operation: name.clone(), outcome: Box::new(outcome) }),
        }
    }

    fn loaded(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Plugin>>> {
        // Every critical section leaves it whole.
        self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn runtime(&self, operation: &OperationName) -> Result<&Arc<Runtime>, PlannerError> {
        let start = async || {
            Runtime::new(RuntimeOptions {
                guest_threads: THREADS,
                state_dir: self.0.state_dir.clone(),
                node_id: String::new(),
                node_name: "master".into(),
            })
        };
        self.0.runtime.get_or_try_init(start).await.map_err(|error| unusable(operation, &error))
    }

    async fn plugin(&self, operation: &OperationName, digest: Digest) -> Result<Arc<Plugin>, PlannerError> {
        if let Some(plugin) = self.loaded().get(&digest) {
            return Ok(plugin.clone());
        }
        let not_stored = || PlannerError::NotStored { operation: operation.clone(), digest };
        let read = self.0.bundles.whole(digest).await;
        let read = read.map_err(|error| PlannerError::Unreadable(operation.clone(), error))?;
        let bundle = Arc::new(read.ok_or_else(not_stored)?);
        let runtime = self.runtime(operation).await?;
        let mut loading = self.load(runtime, &bundle).await;
        if let Err(Unusable::Load(LoadError::Incompatible(_))) = loading {
            // Another version of the helper made it: once more. If it can't be removed, the next attempt
            // says why.
            let _ = std::fs::remove_file(self.0.compiler.path(Digest::of(&bundle.component)));
            loading = self.load(runtime, &bundle).await;
        }
        let plugin = loading.map_err(|error| unusable(operation, &error))?;
        let mut loaded = self.loaded();
        if loaded.len() >= LOADED {
            loaded.clear();
        }
        loaded.insert(digest, plugin.clone());
        Ok(plugin)
    }

    /// Compile it, if that was not done before, and load it.
    async fn load(&self, runtime: &Arc<Runtime>, bundle: &Arc<Bundle>) -> Result<Arc<Plugin>, Unusable> {
        let compiled = self.0.compiler.compiled(&bundle.component).await?;
        let (runtime, bundle) = (runtime.clone(), bundle.clone());
        let load = move || runtime.load(&bundle, &compiled, &NodePolicy::default(), None, Value::Null);
        Ok(tokio::task::spawn_blocking(load).await??)
    }
}

/// Why a bundle can't be run.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot compile it")]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the master failed while it loaded it")]
    Failed(#[from] tokio::task::JoinError),
}

/// With all the reasons in a line.
fn unusable(operation: &OperationName, error: &dyn std::error::Error) -> PlannerError {
    let mut problem = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        problem.push_str(": ");
        problem.push_str(&error.to_string());
        source = error.source();
    }
    PlannerError::Unusable { operation: operation.clone(), problem }
}

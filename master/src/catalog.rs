//! The operations that nodes offer.

use crate::{
    fleet::Fleet,
    store::{Store, StoreError},
};
use std::{collections::BTreeMap, sync::Arc};
use windlass_types::{OperationName, api::OperationInfo};

/// The operations. Clones share them.
#[derive(Debug, Clone)]
pub struct Catalog {
    operations: Arc<BTreeMap<OperationName, Arc<OperationInfo>>>,
}

impl Catalog {
    /// Load the known plugin sources.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn open(_store: Store, _fleet: Fleet) -> Result<Self, StoreError> {
        Ok(Catalog { operations: Arc::default() })
    }
    /// All operations that at least one accepted node offers, by name. Cheap while nothing changes.
    pub fn operations(&self) -> Arc<BTreeMap<OperationName, Arc<OperationInfo>>> {
        self.operations.clone()
    }
    /// One operation.
    pub fn operation(&self, name: &OperationName) -> Option<Arc<OperationInfo>> {
        self.operations.get(name).cloned()
    }
}

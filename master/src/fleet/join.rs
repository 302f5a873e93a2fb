//! Join tokens: each accepts one node, once.
//!
//! The text is `wlj_<id>_<secret>`. The id finds the row; the secret is 32 random bytes, of which
//! only the SHA-256 is kept, and the comparison takes the same time wherever it fails.

use super::{Fleet, FleetError, decide::check_label};
use crate::store;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq as _;
use windlass_types::{
    Digest,
    api::{JoinToken, NewJoinToken},
};

const PREFIX: &str = "wlj_";
const DEFAULT_TTL_MS: u64 = 3_600_000;
const MAX_TTL_MS: u64 = 366 * 86_400_000;

impl Fleet {
    /// Make a join token. The secret is in the reply and nowhere else.
    ///
    /// # Errors
    /// If its time is out of bounds or a label is no good.
    pub async fn create_join_token(&self, new: &NewJoinToken) -> Result<JoinToken, FleetError> {
        let ttl_ms = new.ttl_ms.unwrap_or(DEFAULT_TTL_MS);
        if !(1000..=MAX_TTL_MS).contains(&ttl_ms) {
            return Err(FleetError::BadChange(
                "a join token is good for one second at least and 366 days at most".into(),
            ));
        }
        for (name, value) in &new.labels {
            check_label(name, value)?;
        }
        let id = hex::encode(rand::random::<[u8; 6]>());
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let created_ms = crate::now_ms();
        let token = JoinToken {
            token: None,
            labels: new.labels.clone(),
            created_ms,
            expires_ms: created_ms.saturating_add_unsigned(ttl_ms),
            used_by: None,
            id,
        };
        let (row, hash) = (token.clone(), Digest::of(secret.as_bytes()));
        self.inner
            .store
            .write::<_, store::StoreError, _>(move |c| {
                Box::pin(async move { store::nodes::insert_join_token(c, &row, hash).await })
            })
            .await?;
        Ok(JoinToken { token: Some(format!("{PREFIX}{}_{secret}", token.id)), ..token })
    }

    /// All join tokens, newest first. Those that ended are kept for a week.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn join_tokens(&self) -> Result<Vec<JoinToken>, FleetError> {
        Ok(store::nodes::join_tokens(&self.inner.store).await?)
    }

    /// Forget a join token.
    ///
    /// # Errors
    /// If there is none.
    pub async fn delete_join_token(&self, id: &str) -> Result<(), FleetError> {
        let text = id.to_owned();
        let deleted = self
            .inner
            .store
            .write::<_, store::StoreError, _>(move |c| {
                Box::pin(async move { store::nodes::delete_join_token(c, &text).await })
            })
            .await?;
        match deleted {
            true => Ok(()),
            false => Err(FleetError::UnknownJoinToken { id: id.chars().take(80).collect() }),
        }
    }

    /// The token of this text, if it is good now. Using it up is another step, in the transaction
    /// that accepts the node.
    pub(super) async fn check_join_token(&self, text: &str) -> Result<Option<JoinToken>, FleetError> {
        let Some((id, secret)) = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Some((token, hash)) = store::nodes::find_join_token(&self.inner.store, id).await? else {
            return Ok(None);
        };
        let same: bool = Digest::of(secret.as_bytes()).as_bytes()[..].ct_eq(&hash.as_bytes()[..]).into();
        let good = same && token.used_by.is_none() && token.expires_ms > crate::now_ms();
        Ok(good.then_some(token))
    }
}

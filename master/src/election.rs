//! Who leads, as this master sees it.

use crate::front::Leader;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where this master stands.
#[expect(dead_code, reason = "a master alone on its database neither follows nor waits")]
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// It leads, until `over` is cancelled.
    Leading { epoch: u64, over: CancellationToken },
    /// Another one leads.
    Following(Leader),
    /// Nobody does, as far as this one knows; why.
    Nobody(Arc<str>),
}

/// Takes part, for the life of the process.
#[derive(Debug)]
pub(crate) struct Election {
    standing: watch::Sender<Standing>,
}

impl Election {
    /// The only master of its database leads from its start to its end.
    pub fn alone(epoch: u64) -> Self {
        let over = CancellationToken::new();
        Election { standing: watch::Sender::new(Standing::Leading { epoch, over }) }
    }

    /// The standing as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// The leading part has ended in order: another master may lead at once.
    pub async fn end(self) {}
}
